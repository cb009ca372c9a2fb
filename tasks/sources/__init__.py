"""One module for each scheme of task URIs, with `read(uri, limits) -> RawTask`. To add a source, add one and its
options in `mutant.tasks.uri.OPTIONS`."""
