"""What notebooks show of a run: HTML from templates that escape all text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Environment

from fairsynth.groups import Group

_ENVIRONMENT = Environment(autoescape=True)
_ENVIRONMENT.filters["percent"] = lambda value: "–" if value is None else f"{value:.1%}"
_GROUPS = _ENVIRONMENT.from_string("""<table>
<caption>{{ n }} images</caption>
<thead><tr><th>label</th><th>attribute</th><th>images</th></tr></thead>
<tbody>{% for group, n in counts.items() %}
<tr><td>{{ group.label }}</td><td>{{ group.attribute }}</td><td>{{ n }}</td></tr>{% endfor %}
</tbody>
</table>""")
_REPORT = _ENVIRONMENT.from_string("""<p><b>{{ report.verdict }}</b>{% if report.verdict_why %} ({{ report.verdict_why }}){% endif %}.
{{ report.synthetic_images }}</p>
<table>
<caption>Accuracy on the test split</caption>
<thead><tr><th>method</th><th>worst-group accuracy</th><th>95 % interval over seeds</th><th>mean accuracy</th><th>worst group</th></tr></thead>
<tbody>{% for method in report.methods.values() %}{% set figure = method.worst_group_accuracy %}
<tr><td>{{ method.title }}</td><td>{{ figure.mean|percent }}</td><td>{% if figure.interval %}{{ figure.interval[0]|percent }} to {{ figure.interval[1]|percent }}{% else %}–{% endif %}</td><td>{{ method.accuracy.mean|percent }}</td><td>{{ method.worst_group.label }}, {{ method.worst_group.attribute }}</td></tr>{% endfor %}
</tbody>
</table>
<table>
<caption>Images of each group</caption>
<thead><tr><th>label</th><th>attribute</th><th>real, training</th><th>synthetic</th><th>made by</th></tr></thead>
<tbody>{% for group in report.groups %}
<tr><td>{{ group.group.label }}</td><td>{{ group.group.attribute }}</td><td>{{ group.real }}</td><td>{{ group.synthetic }}</td><td>{{ group.made_by }}</td></tr>{% endfor %}
</tbody>
</table>""")


def groups_html(n: int, counts: Mapping[Group, int]) -> str:
    """How many images each group has."""
    return _GROUPS.render(n=n, counts=counts)


def report_html(report: Any) -> str:
    """The verdict, accuracies and groups of a ``fairsynth.api.report.Report``."""
    return _REPORT.render(report=report)
