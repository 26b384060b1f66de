"""Kinds of defects, and how one is planted into a scene; `registry` names them."""
