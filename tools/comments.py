"""Extension of griffe: comments that start with `#:` document the constant below them."""

import griffe


class CommentDocstrings(griffe.Extension):
    """Read the comments that start with `#:` directly above a constant as its docstring."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs):
        if attr.docstring is not None or attr.lineno is None:
            return
        lines, comment = attr.lines_collection[attr.filepath], []
        line = attr.lineno - 1  # numbers of lines start at 1: the line above the constant
        while line > 0 and lines[line - 1].lstrip().startswith("#:"):
            comment.insert(0, lines[line - 1].lstrip().removeprefix("#:").strip())
            line -= 1
        if comment:
            attr.docstring = griffe.Docstring("\n".join(comment), lineno=line + 1, parent=attr)
