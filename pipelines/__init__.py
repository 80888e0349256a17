"""Jobs made of the library: what runs on a schedule. Installed as ``aerialseg_pipelines``.

The library never imports this package; the command line does, inside the commands that need it.
"""
