"""The RESTful interactions, one function each, named as the specification names them."""
