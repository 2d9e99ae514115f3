import pathlib
import sys

# The helper modules of this folder (importlib mode has no test folders on the path).
sys.path.insert(0, str(pathlib.Path(__file__).parent))
