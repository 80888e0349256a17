"""aerialseg in QGIS: a Processing provider that runs the ``aerialseg`` command in a process of its own."""


def classFactory(iface):  # the name that QGIS looks for
    from .plugin import AerialsegPlugin

    return AerialsegPlugin(iface)
