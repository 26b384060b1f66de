"""Reader and writer of the bundle: the folder that carries a model from exporter to service.

This package imports no other package of the project, and neither torch nor onnx.
"""
