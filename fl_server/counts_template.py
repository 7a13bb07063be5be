"""The page of what was counted, as a template for Jinja: an app of Flower's bundles Python files, and no others."""

from __future__ import annotations

PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ document.name }}: statistics</title>
<style>
:root { color-scheme: light dark; --ink: #1a1f24; --soft: #5b6670; --line: #d8dee3; --bar: #2f6f8f; --paper: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ed; --soft: #9aa7b1; --line: #36414a; --bar: #6fb3d2; --paper: #14191d; }
}
body {
  background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif;
  margin: 2rem auto; max-width: 60rem; padding: 0 1rem;
}
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .4rem; }
p { margin: .3rem 0; } .soft, .kind { color: var(--soft); } .kind { margin: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; }
th, td {
  border-bottom: 1px solid var(--line); font-weight: 400; padding: .15rem .6rem .15rem 0; text-align: left;
}
thead th { color: var(--soft); } .n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th[scope=row] { white-space: nowrap; } td.bar { width: 45%; min-width: 8rem; }
td.bar span { background: var(--bar); border-radius: 2px; display: block; height: .8rem; }
</style>
</head>
<body>
<header>
<p class="kind">MedVeil · statistics before training</p>
<h1>{{ document.name }}</h1>
<p>Images of {{ document.sites | length }} sites: {{ document.sites | join(", ") }}. Nothing was trained.</p>
{% if document.summed %}
<p>Opened as sums over these sites alone: no site's own numbers reached the server.</p>
{% endif %}
{% for site, reason in document.missing.items() %}
<p><strong>{{ site }}</strong> is not among them: {{ reason }}</p>
{% endfor %}
{% for note in document.notes %}
<p class="soft">{{ note[0] | upper }}{{ note[1:] }}.</p>
{% endfor %}
</header>
{% for figure in figures %}
<section>
<h2>{{ figure.title }}</h2>
<p>{{ figure.total | images }} images told of{% if figure.percentiles %}; {{ figure.percentiles }}{% endif %}.
{% if figure.untold %}
<span class="soft">{{ figure.untold }} of the numbers {{ "is" if figure.untold == 1 else "are" }} 0
{%- if figure.left %}, {{ figure.left }} of them left out here{% endif %}.</span>
{% endif %}
</p>
<div class="scroll" tabindex="0"><table>
<thead><tr><th scope="col"></th><th scope="col" class="n">images</th><td class="bar"></td>
{% for site in figure.sites %}
<th scope="col" class="n">{{ site }}</th>
{% endfor %}
</tr></thead>
<tbody>
{% for cell, count, width, own in figure.rows %}
<tr><th scope="row">{{ cell }}</th><td class="n">{{ count | images }}</td>
<td class="bar"><span style="width: {{ width | round(1) }}%"></span></td>
{% for number in own %}
<td class="n">{{ number | images }}</td>
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table></div>
</section>
{% endfor %}
</body>
</html>
"""
