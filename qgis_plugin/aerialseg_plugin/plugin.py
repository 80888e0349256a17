"""What QGIS loads: the provider and a menu entry."""

from __future__ import annotations

from qgis.core import QgsApplication
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction

from .provider import ICON, AerialsegProvider

MENU = "&aerialseg"


class AerialsegPlugin:
    """``iface`` is None in qgis_process, which calls ``initProcessing`` alone."""

    def __init__(self, iface) -> None:
        self.iface = iface
        self.provider = None
        self.actions = []

    def initProcessing(self) -> None:
        self.provider = AerialsegProvider()
        QgsApplication.processingRegistry().addProvider(self.provider)

    def initGui(self) -> None:
        self.initProcessing()
        self._add_action("Map land cover…", "maplandcover")

    def unload(self) -> None:
        for action in self.actions:
            self.iface.removePluginRasterMenu(MENU, action)
        self.actions = []
        if self.provider is not None:
            QgsApplication.processingRegistry().removeProvider(self.provider)
            self.provider = None

    def _add_action(self, text: str, algorithm: str) -> None:
        action = QAction(QIcon(ICON), text, self.iface.mainWindow())
        action.triggered.connect(lambda: open_dialog(algorithm))
        self.iface.addPluginToRasterMenu(MENU, action)
        self.actions.append(action)


def open_dialog(algorithm: str) -> None:
    import processing  # QGIS's own, loaded after this plugin

    processing.execAlgorithmDialog(f"aerialseg:{algorithm}")
