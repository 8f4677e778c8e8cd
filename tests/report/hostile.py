"""Texts that a model, a file name or a concept list could carry, and that must be shown and never run.

What runs sets ``window.pwned`` or opens a dialog.
"""

from __future__ import annotations

_RUN = "window.pwned=1;alert(1)"
_SCRIPTS = (
    f"<script>{_RUN}</script>",
    f"</script><script>{_RUN}</script>",
    f"</SCRIPT ><script>{_RUN}</script >",
    f"</title><script>{_RUN}</script>",
    f"</style><script>{_RUN}</script>",
    f"</textarea><script>{_RUN}</script>",
    f"</noscript><script>{_RUN}</script>",
    f"<!--<script>{_RUN}</script>-->",
    f"--><script>{_RUN}</script><!--",
    f"]]><script>{_RUN}</script>",
    f"<scr<script>ipt>{_RUN}</scr</script>ipt>",
    f"<script src=data:,{_RUN}></script>",
    "<script src=//evil.example/x.js></script>",
    f"<script type=module>{_RUN}</script>",
    f"<svg><script>{_RUN}</script></svg>",
    f"<math><script>{_RUN}</script></math>",
    f"<template><script>{_RUN}</script></template>",
)
_HANDLERS = tuple(
    f"<{tag} {handler}={quote}{_RUN}{quote}>"
    for tag, handler in (
        ("img src=x", "onerror"), ("svg", "onload"), ("body", "onload"), ("input autofocus", "onfocus"),
        ("details open", "ontoggle"), ("video src=x", "onerror"), ("audio src=x", "onerror"),
        ("iframe", "onload"), ("marquee", "onstart"), ("object data=x", "onerror"), ("a href=#", "onclick"),
    )
    for quote in ("", "'", '"')
)  # fmt: skip
_ATTRIBUTES = (
    f'"><img src=x onerror="{_RUN}">',
    f"'><img src=x onerror='{_RUN}'>",
    f'" onmouseover="{_RUN}',
    f"' onmouseover='{_RUN}",
    f'" autofocus onfocus="{_RUN}" x="',
    f"x onerror={_RUN}",
    f'"/><svg/onload={_RUN}>',
    f"` onerror={_RUN} `",
    f'" style="background:url(javascript:{_RUN})',
    f"/><iframe srcdoc='<script>{_RUN}</script>'>",
)
_LINKS = (
    f"javascript:{_RUN}",
    f"JaVaScRiPt:{_RUN}",
    f"java\tscript:{_RUN}",
    f"data:text/html,<script>{_RUN}</script>",
    f"vbscript:{_RUN}",
    f"<a href='javascript:{_RUN}'>x</a>",
    f"<iframe src='javascript:{_RUN}'>",
    f"<form action='javascript:{_RUN}'><button>x",
    f"<meta http-equiv=refresh content='0;url=javascript:{_RUN}'>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<img src=//evil.example/x.png>",
    "../../../etc/passwd",
    "..\\..\\secret",
    "file:///etc/passwd",
)
_JAVASCRIPT = (
    f"';{_RUN};//",
    f'";{_RUN};//',
    f"`;{_RUN};//",
    f"\\';{_RUN};//",
    f'\\";{_RUN};//',
    f"${{{_RUN}}}",
    f"`${{{_RUN}}}`",
    f"\u2028{_RUN}\u2028",
    f"\u2029{_RUN}\u2029",
    f"\n{_RUN}\n",
    f"*/{_RUN}/*",
    f"]);{_RUN};([",
    f'"]]);{_RUN};labeler.chunk(0,[["',
    "\\",
    '"',
    "\\u003cscript\\u003e",
    "<!--",
    "<![CDATA[",
    "__proto__",
    "constructor",
    "toString",
)
_TEMPLATES = (
    "{{ 7 * 7 }}",
    "{% raw %}",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "{{ config }}",
    "{# comment #}",
    "${7*7}",
    "#{7*7}",
    "<%= 7*7 %>",
    "{{constructor.constructor('alert(1)')()}}",
    "%s%n%x",
    "{0}{unit}",
)
_FORMULAS = (
    "=1+1",
    "+1+1",
    "-1+1",
    "@SUM(A1:A9)",
    "=cmd|' /C calc'!A0",
    '=HYPERLINK("http://evil.example","x")',
    "\t=1+1",
    "\r=1+1",
    '"=1+1',
    "\n=1+1",
    "'=1+1",
    "''+1",
    "\uff1d1+1",
    "\uff201+1",
    ";=1+1",
    "a;=cmd|' /C calc'!A0;b",
    "a,b;c\td",
)
_TERMINAL = (
    "\x1b[2J\x1b[H",
    "\x1b[8mhidden\x1b[0m",
    "\x1b]0;title\x07",
    "\x1b]52;c;ZXZpbA==\x07",
    "\x1b]8;;http://evil.example\x1b\\dog\x1b]8;;\x1b\\",
    "\x1bP1$r0m\x1b\\",
    "\x1bc",
    "\x1b[6n",
    "\x9b31mred",
    "\x9d0;title\x9c",
    "dog\rcat",
    "dog\x08\x08\x08cat",
    "\x7fdog",
    "\x0bdog\x0c",
    "dog\naccepted: cat",
    "dog\x85cat",
    "\U000e0041\U000e0042dog",
)
_UNICODE = (
    "abc\u202egpj.exe",
    "\u202d\u202eabc",
    "\u2066abc\u2069",
    "\u200babc\u200d",
    "\ufeffabc",
    "e\u0301" * 30,
    "a" + "\u0300" * 80,
    "\U0001f9e0\U0001f469\u200d\U0001f52c",
    "\u05e9\u05dc\u05d5\u05dd dog",
    "\u0000abc",
    "\x1b[31mred",
    "\x07\x08bell",
    "\ufffe\uffff",
    "\u0130\u0131",
)
_LONG = (
    "W" * 80,
    "W" * 3000,
    "long words " * 500,
    "<b>" * 1000,
    "&amp;" * 500,
    "&lt;b&gt;",
    "a&b <b>bold</b>",
)

HOSTILE: tuple[str, ...] = (
    *_SCRIPTS, *_HANDLERS, *_ATTRIBUTES, *_LINKS, *_JAVASCRIPT, *_TEMPLATES, *_FORMULAS,
    *_TERMINAL, *_UNICODE, *_LONG,
)  # fmt: skip


def as_parsed(text: str) -> str:
    """A text as an HTML parser gives it back: one kind of line end, and no NUL."""
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")
