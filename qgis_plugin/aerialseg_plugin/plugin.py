"""What QGIS loads: the provider, a menu entry, and an offer to install where ``aerialseg`` is missing."""

from __future__ import annotations

from qgis.core import Qgis, QgsApplication
from qgis.PyQt.QtGui import QIcon
from qgis.PyQt.QtWidgets import QAction, QPushButton

from .command import find_command
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
        self._add_action("Install aerialseg…", "install")
        if find_command() is None:
            self._offer_to_install()

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

    def _offer_to_install(self) -> None:
        bar = self.iface.messageBar()
        item = bar.createMessage("aerialseg", "The program that computes the maps is not installed yet.")
        button = QPushButton("Install…", item)
        button.clicked.connect(lambda: open_dialog("install"))
        item.layout().addWidget(button)
        bar.pushWidget(item, Qgis.MessageLevel.Info)


def open_dialog(algorithm: str) -> None:
    import processing  # QGIS's own, loaded after this plugin

    processing.execAlgorithmDialog(f"aerialseg:{algorithm}")
