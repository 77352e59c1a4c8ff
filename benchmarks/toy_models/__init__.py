"""How the recognizer and the generator of toy faces, which come with the package, were made."""
