"""One module per dataset layout; the module's name is the format's.

A reader has ``recognises(storage) -> bool`` (a cheap look: is this the layout?) and
``read(storage, config) -> Metadata``, which reads metadata alone, opens no image, and raises DataError for
what makes the metadata unusable. A reader with settings of its own has a pydantic model ``Options``;
they are given as ``data.options.NAME``. ``SPLIT_FRACTIONS`` is the usual split of a dataset without one. Adding a reader is adding a module here.
"""
