"""The three styles of a layer over its orthophoto, as the real QGIS draws them: OUT-1.png, OUT-2.png, OUT-3.png.

    QT_QPA_PLATFORM=offscreen /usr/bin/python3 benchmarks/qgis_styles.py ORTHO.tif MAP.gpkg OUT

Runs in the Python of QGIS, of Debian's package python3-qgis. docs/images/qgis-styles.png is the three side by side,
of the scene that `aerialseg demo` draws.
"""

import sqlite3
import sys
from contextlib import closing

from PyQt5.QtCore import QSize
from PyQt5.QtXml import QDomDocument
from qgis.core import (
    QgsApplication,
    QgsExpressionContext,
    QgsExpressionContextUtils,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsVectorLayer,
)

application = QgsApplication([], False)
application.initQgis()
ortho = QgsRasterLayer(sys.argv[1], "ortho")
with closing(sqlite3.connect(sys.argv[2])) as database:
    query = "SELECT styleQML FROM layer_styles WHERE f_table_name = 'landcover' ORDER BY id"
    styles = [text for (text,) in database.execute(query)]
jobs = []  # kept: they must not go before the application does
for number, text in enumerate(styles, 1):
    layer = QgsVectorLayer(f"{sys.argv[2]}|layername=landcover", "landcover", "ogr")
    document = QDomDocument()
    document.setContent(text)
    layer.importNamedStyle(document)
    settings = QgsMapSettings()
    settings.setLayers([layer, ortho])
    settings.setDestinationCrs(layer.crs())
    settings.setExtent(layer.extent())
    settings.setOutputSize(QSize(620, 620))
    context = QgsExpressionContext()
    context.appendScope(QgsExpressionContextUtils.mapSettingsScope(settings))
    settings.setExpressionContext(context)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(f"{sys.argv[3]}-{number}.png")
    jobs.append((job, settings, layer))
