"""The provider ``aerialseg`` of Processing: its algorithms and its setting."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from qgis.core import QgsProcessingProvider
from qgis.PyQt.QtGui import QIcon

from .algorithms import ALGORITHMS
from .command import SETTING

ICON = str(Path(__file__).with_name("icon.svg"))


class AerialsegProvider(QgsProcessingProvider):
    """Writes what the command writes: other formats are not offered."""

    def id(self) -> str:
        return "aerialseg"

    def name(self) -> str:
        return "aerialseg"

    def longName(self) -> str:
        return "aerialseg: land-cover maps from aerial imagery"

    def icon(self) -> QIcon:
        return QIcon(ICON)

    def load(self) -> bool:
        with suppress(ImportError):  # QGIS without its Processing plugin
            _add_setting(self)
        self.refreshAlgorithms()
        return True

    def loadAlgorithms(self) -> None:
        for algorithm in ALGORITHMS:
            self.addAlgorithm(algorithm())

    def supportsNonFileBasedOutput(self) -> bool:
        return False

    def supportedOutputVectorLayerExtensions(self) -> list[str]:
        return ["gpkg", "fgb", "geojson", "parquet"]

    def defaultVectorFileExtension(self, hasGeometry: bool = True) -> str:
        return "gpkg"

    def supportedOutputRasterLayerExtensions(self) -> list[str]:
        return ["tif"]

    def defaultRasterFileExtension(self) -> str:
        return "tif"


def _add_setting(provider: AerialsegProvider) -> None:
    from processing.core.ProcessingConfig import ProcessingConfig, Setting

    group = provider.name()
    ProcessingConfig.settingIcons[group] = provider.icon()
    text = "The aerialseg command (empty: found automatically)"
    ProcessingConfig.addSetting(Setting(group, SETTING, text, "", valuetype=Setting.FILE))
    ProcessingConfig.readSettings()
