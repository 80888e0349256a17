"""Layers of QGIS as files that another program can read."""

from __future__ import annotations

import os

from qgis.core import (
    QgsFeature,
    QgsFeatureSink,
    QgsFields,
    QgsMapLayer,
    QgsProcessingContext,
    QgsProcessingException,
    QgsProcessingFeatureSource,
    QgsProviderRegistry,
    QgsVectorFileWriter,
)


def path_of(layer: QgsMapLayer) -> str:
    """The file that holds the layer.

    Raises QgsProcessingException for a layer of a service or of memory.
    """
    parts = QgsProviderRegistry.instance().decodeUri(layer.providerType(), layer.source())
    path = str(parts.get("path", ""))
    if layer.providerType() not in ("gdal", "ogr") or not os.path.exists(path):
        raise QgsProcessingException(
            f"The layer '{layer.name()}' ({layer.providerType()}) is not a file on this computer. "
            "Save it as a file first: right-click the layer, Export, Save As."
        )
    return path


def check_saved(layer: QgsMapLayer) -> None:
    """Raise QgsProcessingException for a layer with edits that are not saved: the file is read."""
    if layer.isEditable() and layer.isModified():
        raise QgsProcessingException(f"The layer '{layer.name()}' has edits that are not saved: save them first.")


def layer_name_of(layer: QgsMapLayer) -> str:
    """The layer's name in its file; empty where the file holds one layer."""
    parts = QgsProviderRegistry.instance().decodeUri(layer.providerType(), layer.source())
    return str(parts.get("layerName") or "")


def file_and_layer(layer: QgsMapLayer) -> str:
    """``FILE:LAYER``, or ``FILE`` where it holds one layer.

    Raises QgsProcessingException for a layer with edits that are not saved.
    """
    check_saved(layer)
    path, name = path_of(layer), layer_name_of(layer)
    return f"{path}:{name}" if name else path


def write_polygons(
    source: QgsProcessingFeatureSource, path: str, context: QgsProcessingContext, field: str = ""
) -> None:
    """Write the geometries (of the selected features, if only those are asked for), and one field, as a GeoPackage."""
    options = QgsVectorFileWriter.SaveVectorOptions()
    options.driverName = "GPKG"
    fields = QgsFields()
    if field:
        fields.append(source.fields().field(field))
    writer = QgsVectorFileWriter.create(
        path, fields, source.wkbType(), source.sourceCrs(), context.transformContext(), options
    )
    if writer.hasError() != QgsVectorFileWriter.WriterError.NoError:
        raise QgsProcessingException(f"{source.sourceName()} cannot be written: {writer.errorMessage()}")
    for feature in source.getFeatures():
        written = QgsFeature(fields)
        written.setGeometry(feature.geometry())
        if field:
            written.setAttributes([feature[field]])
        writer.addFeature(written, QgsFeatureSink.Flag.FastInsert)
    del writer  # closes the file
