"""The end of a `sitecustomize`, which every Python process imports first: FAULTS change modules as they come in."""

FINDER = """
class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name not in FAULTS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module
        spec.loader.exec_module = lambda module: (execute(module), FAULTS[name](module))
        return spec

sys.meta_path.insert(0, Finder())
"""
