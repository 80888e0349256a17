"""Results as QGIS shows them: in one group, with the style that they bring."""

from __future__ import annotations

from qgis.core import QgsProcessingContext, QgsProcessingLayerPostProcessorInterface, QgsVectorLayer

LAYER = "landcover"
_kept: list[QgsProcessingLayerPostProcessorInterface] = []
"""QGIS does not keep the Python side of a post-processor alive."""


class _Styled(QgsProcessingLayerPostProcessorInterface):
    def __init__(self, group: str, visible: bool) -> None:
        super().__init__()
        self._group, self._visible = group, visible

    def postProcessLayer(self, layer, context, feedback) -> None:
        layer.loadDefaultStyle()  # Processing loads layers without it
        layer.triggerRepaint()
        root = context.project().layerTreeRoot() if context.project() else None
        node = root.findLayer(layer.id()) if root else None
        if node is None:
            return
        node.setItemVisibilityChecked(self._visible)
        if isinstance(layer, QgsVectorLayer):
            node.setExpanded(True)
        _move(root, node, self._group, top=self._visible)


def _move(root, node, name: str, top: bool) -> None:
    group = root.findGroup(name) or root.insertGroup(0, name)
    if node.parent() is group:
        return
    group.insertChildNode(0 if top else -1, node.clone())
    node.parent().removeChildNode(node)


def show_result(
    context: QgsProcessingContext, path: str, uri: str, name: str, group: str, visible: bool = True
) -> None:
    """Have a result that is to be loaded read from ``uri``, named, styled, and put into a group of the layer tree."""
    if not context.willLoadLayerOnCompletion(path):
        return
    details = context.layerToLoadOnCompletionDetails(path)
    layers = {uri if key == path else key: value for key, value in context.layersToLoadOnCompletion().items()}
    details.name = name
    if hasattr(details, "groupName"):  # QGIS 3.32
        details.groupName = group
    context.setLayersToLoadOnCompletion(layers)
    kept = context.layerToLoadOnCompletionDetails(uri)
    kept.setPostProcessor(_keep(_Styled(group, visible)))


def _keep(processor: QgsProcessingLayerPostProcessorInterface) -> QgsProcessingLayerPostProcessorInterface:
    _kept.append(processor)
    return processor
