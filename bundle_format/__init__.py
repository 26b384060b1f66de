"""Reader and writer of the bundle: the folder that carries a model from exporter to service.

The ground floor: imports nothing of ours, and neither torch nor onnx.
"""
