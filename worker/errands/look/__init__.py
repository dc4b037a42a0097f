"""What `facts` looks at, a module for each kind. Any function may raise OSError or ValueError: a fact as well."""
