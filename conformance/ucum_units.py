"""The units of UCUM (https://ucum.org/ucum, tables 1 to 22) that health data use, as facts.

`ATOMS` gives each unit as a number times a code of simpler units; a unit defined by itself is a
dimension of its own. `METRIC` names those that take a prefix.
"""

PREFIXES: dict[str, str] = {
    "Y": "1e24", "Z": "1e21", "E": "1e18", "P": "1e15", "T": "1e12", "G": "1e9", "M": "1e6",
    "k": "1e3", "h": "1e2", "da": "10", "d": "1/10", "c": "1/100", "m": "1/1000",
    "u": "1e-6", "n": "1e-9", "p": "1e-12", "f": "1e-15", "a": "1e-18", "z": "1e-21",
    "y": "1e-24", "Ki": "1024", "Mi": "1048576", "Gi": "1073741824", "Ti": "1099511627776",
}  # fmt: skip

OFFSETS: dict[str, tuple[str, str]] = {
    "Cel": ("1", "27315/100"),
    "[degF]": ("5/9", "45967/180"),
    "[degRe]": ("5/4", "27315/100"),
}

_PI = "3.1415926535897932384626433832795028841971693993751"

ATOMS: dict[str, tuple[str, str]] = {
    # dimensionless
    "%": ("1/100", "1"), "[ppth]": ("1e-3", "1"), "[ppm]": ("1e-6", "1"),
    "[ppb]": ("1e-9", "1"), "[pptr]": ("1e-12", "1"), "mol": ("6.02214076e23", "1"),
    "eq": ("1", "mol"), "osm": ("1", "mol"), "[pi]": (_PI, "1"), "sr": ("1", "rad2"),
    # SI
    "Hz": ("1", "s-1"), "N": ("1000", "g.m/s2"), "Pa": ("1", "N/m2"), "J": ("1", "N.m"),
    "W": ("1", "J/s"), "A": ("1", "C/s"), "V": ("1", "J/C"), "F": ("1", "C/V"),
    "Ohm": ("1", "V/A"), "S": ("1", "Ohm-1"), "Wb": ("1", "V.s"), "T": ("1", "Wb/m2"),
    "H": ("1", "Wb/A"), "lm": ("1", "cd.sr"), "lx": ("1", "lm/m2"), "Bq": ("1", "s-1"),
    "Gy": ("1", "J/kg"), "Sv": ("1", "J/kg"), "kat": ("1", "mol/s"),
    # used with SI
    "l": ("1", "dm3"), "L": ("1", "l"), "ar": ("100", "m2"), "t": ("1000", "kg"),
    "bar": ("1e5", "Pa"), "u": ("1.6605402e-24", "g"), "eV": ("1.60217733e-19", "J"),
    "gon": ("9/10", "deg"), "deg": ("0.017453292519943295769236907684886", "rad"),
    "'": ("1/60", "deg"), "''": ("1/60", "'"),
    # time
    "min": ("60", "s"), "h": ("60", "min"), "d": ("24", "h"), "wk": ("7", "d"),
    "a": ("365.25", "d"), "a_j": ("365.25", "d"), "a_t": ("365.24219", "d"),
    "a_g": ("365.2425", "d"), "mo": ("1/12", "a_j"), "mo_j": ("1/12", "a_j"),
    "mo_s": ("29.53059", "d"), "mo_g": ("1/12", "a_g"),
    # centimetre-gram-second
    "Ky": ("100", "m-1"), "dyn": ("1", "g.cm/s2"), "erg": ("1", "dyn.cm"), "P": ("1", "dyn.s/cm2"),
    "St": ("1", "cm2/s"), "G": ("1e-4", "T"), "Mx": ("1e-8", "Wb"), "sb": ("1", "cd/cm2"),
    "Lmb": ("1", "cd/cm2/[pi]"), "ph": ("1e-4", "lx"), "Ci": ("3.7e10", "Bq"),
    "R": ("2.58e-4", "C/kg"), "RAD": ("100", "erg/g"), "REM": ("1", "RAD"),
    # lengths, areas, volumes, weights outside SI
    "[in_i]": ("2.54", "cm"), "[ft_i]": ("12", "[in_i]"), "[yd_i]": ("3", "[ft_i]"),
    "[mi_i]": ("5280", "[ft_i]"), "[nmi_i]": ("1852", "m"), "[kn_i]": ("1", "[nmi_i]/h"),
    "[fth_i]": ("6", "[ft_i]"), "[sin_i]": ("1", "[in_i]2"), "[sft_i]": ("1", "[ft_i]2"),
    "[cin_i]": ("1", "[in_i]3"), "[cft_i]": ("1", "[ft_i]3"), "[mil_i]": ("1e-3", "[in_i]"),
    "[in_us]": ("1/12", "[ft_us]"), "[ft_us]": ("1200/3937", "m"),
    "[acr_us]": ("43560", "[ft_us]2"),
    "[gal_us]": ("231", "[cin_i]"), "[qt_us]": ("1/4", "[gal_us]"), "[pt_us]": ("1/2", "[qt_us]"),
    "[foz_us]": ("1/16", "[pt_us]"), "[tbs_us]": ("1/2", "[foz_us]"),
    "[tsp_us]": ("1/3", "[tbs_us]"), "[cup_us]": ("16", "[tbs_us]"), "[cup_m]": ("240", "mL"),
    "[tsp_m]": ("5", "mL"), "[tbs_m]": ("15", "mL"), "[foz_m]": ("30", "mL"),
    "[gal_br]": ("4.54609", "l"),
    "[gr]": ("64.79891", "mg"), "[lb_av]": ("7000", "[gr]"), "[oz_av]": ("1/16", "[lb_av]"),
    "[dr_av]": ("1/16", "[oz_av]"), "[ston_av]": ("2000", "[lb_av]"),
    "[lton_av]": ("2240", "[lb_av]"), "[stone_av]": ("14", "[lb_av]"),
    "[oz_tr]": ("480", "[gr]"), "[lb_tr]": ("12", "[oz_tr]"), "[car_m]": ("0.2", "g"),
    "[drp]": ("1/20", "ml"), "[lbf_av]": ("4.4482216152605", "N"),
    # pressure, energy, concentration
    "m[H2O]": ("9806.65", "Pa"), "m[Hg]": ("133322", "Pa"), "[in_i'Hg]": ("3386.3788", "Pa"),
    "[in_i'H2O]": ("249.08891", "Pa"), "[psi]": ("1", "[lbf_av]/[in_i]2"), "atm": ("101325", "Pa"),
    "att": ("98066.5", "Pa"), "cal": ("4.184", "J"), "cal_th": ("4.184", "J"),
    "[Cal]": ("1", "kcal"), "[HP]": ("745.69987158227022", "W"), "[Btu]": ("1055.05585", "J"),
    "U": ("1", "umol/min"), "g%": ("1", "g/dl"), "[S]": ("1e-13", "s"),
    "Ao": ("0.1", "nm"), "b": ("100", "fm2"), "[c]": ("299792458", "m/s"),
    "[g]": ("9.80665", "m/s2"), "[diop]": ("1", "m-1"), "[MET]": ("3.5", "mL/min/kg"),
    "[HPF]": ("1", "1"), "[LPF]": ("100", "1"),
    # information
    "bit": ("1", "1"), "By": ("8", "bit"), "Bd": ("1", "s-1"),
    # dimensions of their own
    "[iU]": ("1", "[iU]"), "[IU]": ("1", "[iU]"), "[arb'U]": ("1", "[arb'U]"),
    "[USP'U]": ("1", "[USP'U]"), "[GPL'U]": ("1", "[GPL'U]"), "[MPL'U]": ("1", "[MPL'U]"),
    "[APL'U]": ("1", "[APL'U]"), "[beth'U]": ("1", "[beth'U]"), "[CFU]": ("1", "[CFU]"),
    "[FFU]": ("1", "[FFU]"), "[PFU]": ("1", "[PFU]"), "[CCID_50]": ("1", "[CCID_50]"),
    "[EID_50]": ("1", "[EID_50]"), "[TCID_50]": ("1", "[TCID_50]"), "[anti'Xa'U]":
    ("1", "[anti'Xa'U]"), "[Lf]": ("1", "[Lf]"), "[D'ag'U]": ("1", "[D'ag'U]"),
    "[todd'U]": ("1", "[todd'U]"), "[ka'U]": ("1", "[ka'U]"), "[knk'U]": ("1", "[knk'U]"),
    "[mclg'U]": ("1", "[mclg'U]"), "[tb'U]": ("1", "[tb'U]"), "[dye'U]": ("1", "[dye'U]"),
    "[smgy'U]": ("1", "[smgy'U]"), "[bdsk'U]": ("1", "[bdsk'U]"), "[Amb'a'1'U]":
    ("1", "[Amb'a'1'U]"), "[PNU]": ("1", "[PNU]"), "[AU]": ("1", "[AU]"), "[BAU]": ("1", "[BAU]"),
    "[pH]": ("1", "[pH]"), "Np": ("1", "Np"), "B": ("1", "B"), "B[SPL]": ("1", "B[SPL]"),
    "[p'diop]": ("1", "[p'diop]"), "[hp_X]": ("1", "[hp_X]"), "[hp_C]": ("1", "[hp_C]"),
}  # fmt: skip

METRIC = frozenset({
    "m", "s", "g", "rad", "K", "C", "cd", "mol", "eq", "osm", "sr", "Hz", "N", "Pa", "J", "W",
    "A", "V", "F", "Ohm", "S", "Wb", "T", "H", "lm", "lx", "Bq", "Gy", "Sv", "kat", "l", "L",
    "ar", "t", "bar", "u", "eV", "dyn", "erg", "P", "St", "G", "Mx", "sb", "Lmb", "ph", "Ci",
    "R", "RAD", "REM", "Ky", "m[H2O]", "m[Hg]", "cal", "cal_th", "U", "g%", "[iU]", "[IU]", "B",
    "B[SPL]", "Np", "bit", "By", "Bd", "gon", "a", "a_j", "[PNU]", "[CFU]",
})  # fmt: skip
