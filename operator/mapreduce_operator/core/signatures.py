"""One signature per kind of failure: what differs from item to item is taken out of its message.

Whatever counts, groups or looks for failures does it by this signature. Two aims pull apart. The same failure on
different items must be one group, so whatever may name a case goes: ids, numbers, times, places, and what stands in
quotes. Different failures must stay apart, so whatever names a kind stays: words, names of exceptions, and codes. Where
they collide the first aim wins. `No module named 'foo'` and `No module named 'bar'` are one group, for a thousand items
in a thousand groups help nobody, and each letter still holds its whole message.

A code is told from a number by the company it keeps: `HTTP 503`, `errno 13`, `exit status 2` and `503 Service
Unavailable`, but not `503 rows`.
"""

import hashlib
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from mapreduce_operator.api import Reason

TEXT_CHARACTERS: Final = 256
"""Where a signature's text is cut. What lies behind makes no difference."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What the failures of one kind have in common.

    The id is 10 hexadecimal characters of the SHA-256 over the text, whatever its case. The text is for people, on one
    line of at most `TEXT_CHARACTERS`, such as `Error (exit code 1): cannot open <path>: No such file or directory`.
    """

    id: str
    text: str


@lru_cache(maxsize=1024)
def signature_of(reason: Reason, exit_code: int | None, message: str) -> Signature:
    """The signature of a failure. Any message will do; the time is at most in proportion to its length.

    A failure is asked about more than once between its end and its checkpoint, and most failures are alike.
    """
    text = reason.value if exit_code is None else f"{reason} (exit code {exit_code})"
    if line := " ".join(_telling_line(_NOISE.sub("", message)).split()):
        text = _with_placeholders(f"{text}: ", line)
    return Signature(hashlib.sha256(text.casefold().encode()).hexdigest()[:10], text)


def _with_placeholders(text: str, line: str) -> str:
    """The text with as much of the line as there is room for. No placeholder is cut: half of one reads as a word."""
    room = TEXT_CHARACTERS - 1
    end = 0
    for token in _TOKEN.finditer(line):
        text += line[end : token.start()]
        part = f"<{token.lastgroup}>" if token.lastgroup else token[0]
        if len(text) + len(part) > room:
            break
        text += part
        end = token.end()
    else:
        text += line[end:]
        if len(text) <= room:
            return text
    return text[:room] + "…"


# ------------------------------------------------------------------------------------------------------------ the line

_NOISE: Final = re.compile(
    r"\x1b\[[0-?]*+[ -/]*+[@-~]?"  # colours
    r"|\x1b\][^\x07\x1b]*+(?:\x07|\x1b\\)?"  # links and titles of a terminal
    r"|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\ud800-\udfff]"  # what neither JSON nor a terminal should get to see
)

# A message is often the end of a log. One of its lines tells what happened; the others tell what went on before, or
# where in the code it was, and differ. It is the last that names an exception, since causes come last; if there is
# none, the last that complains; if there is none, the last. Indented lines are the frames of a stack.
_LETTER: Final = re.compile(r"[^\W\d_]")
_RAISED: Final = re.compile(r"(?:Error|Exception|Interrupt)(?=[:)]| ?\(|$)|panic(?:ked)?\b|Caused by:|what\(\):")
_RAISED_BY_CLASS: Final = re.compile(r"[a-z_][\w.]*\.[A-Z]\w*:")
_COMPLAINT: Final = re.compile(
    r"error|exception|fatal|fail|critical|cannot|unable|denied|refused|invalid|abort|killed|timed? ?out|not found"
    r"|no such|exceeded|unavailable"
)


def _telling_line(message: str) -> str:
    lines = [line.rstrip() for line in message.splitlines() if _LETTER.search(line)]
    if not lines:
        return message
    flush = [number for number, line in enumerate(lines) if not line[0].isspace() or "what():" in line]
    candidates = list(reversed(flush or range(len(lines))))
    for number in candidates:
        if _RAISED.search(lines[number]) or _RAISED_BY_CLASS.match(lines[number]):
            # `Caused by:` and `panicked at main.rs:4:5:` go on in the next line.
            return " ".join(lines[number : number + 1 + lines[number].endswith(":")])
    return next(
        (lines[number] for number in candidates if _COMPLAINT.search(lines[number].lower())), lines[candidates[0]]
    )


# ---------------------------------------------------------------------------------------------------------- the tokens

# One alternation: each character is read once, from left to right, and what was replaced is not read again.
# - For the time to be linear, repetitions are possessive or bounded, or begin only where none like them can have begun
#   and failed before.
# - For a text with placeholders to stay as it is, nothing begins behind the `>` of a placeholder that could not have
#   begun behind what it stands for.
# - For speed, most of a message is passed over with one look: a plain word with another behind it.

_START: Final = r"(?<![^\W_])"
_END: Final = r"(?![^\W_])"
_PLAIN: Final = r"[^\W\d_]++[.:,]?+ (?![A-Z][a-z][a-z] \d)[^\W\d_]"
"""Not so `Wed May 1`, which is a time."""

# What says which failure it is, and stays.
_HTTP_ERROR: Final = r"[45]\d\d(?= (?:[A-Z][a-z]{2}|[{<])| ?[A-Z]?[a-z]?…)"
"""`503 Service Unavailable`, `404 Client Error`, `429 {"type":`"""
_IS: Final = r"[ :=#(\"'\[]{1,4}"
_CODES: Final = (
    # HTTP 503, HTTP/1.1 503, status=503, statusCode: 503, "code": 429
    rf"(?:https?(?:/[\d.]++)?|status(?:code)?|code){_IS}(?:\d{{1,3}}|-\d{{1,5}}){_END}(?![.:/,-]\d)"
    # errno 13, [WinError 5], SQLSTATE[42P01], curl: (28), exit status 3221225477, exited with 3, signal 9
    r"|(?:errno|winerror|sqlstate|hresult|curl|signal|exit(?:ed)?|(?:(?<=\bexit )|(?<=\berror ))(?:code|status)"
    rf"|(?<=\bexited )with){_IS}-?[a-z]{{0,5}}\d[^\W_]*+(?![.:/,-]\d)"
    # error[E0308]: …, ERROR 1062 (23000): …, (os error 2), error TS2307: …
    r"|(?:error[ (\[]-?|(?<=\berror )|(?<=\bsqlstate ))[a-z]{0,5}\d[^\W_]*+(?=[\])}:;,'\"](?!\d)| \(|$)"
    # returned error: 404, got 503 from …, failed with 429
    r"|(?:returned|response|got|received|error|(?:(?<=\bresponded )|(?<=\breplied )|(?<=\bfailed ))with):?[ (]{1,2}"
    rf"[45]\d\d{_END}(?=$|[.,:](?!\d)|[^\w\s.,:%/-]| (?:for|from|on|at|after|while|when|in|by|to|…))"
)
_NAMES: Final = (
    r"[A-Z][A-Za-z0-9]*(?:Error|Exception|Failure|Fault)"
    r"|(?<![\w.])(?:[a-z]\w*+\.)+[A-Z]\w*+(?=[: (]|$)"
    r"|(?i:utf-?(?:8|16|32)|sha-?(?:1|256|512)|md5|base64|u?int(?:8|16|32|64)|float(?:32|64)|ipv[46]|s3|ec2|k8s"
    r"|oauth2|http2|log4j|x509|x86_64|(?:amd|arm|x)64)"
)
"""Words that have a digit in them and yet mean the same for every item."""
_SPOKEN: Final = "error|err|exception|message|msg|reason|detail|title|desc|type|kind|code|status|cause"
"""Keys whose values say what went wrong: those quotes are opened, and what stands in them is read like any text."""
_KEY: Final = "(?:(?<=[{,])|(?<=[{,] ))"
_COLON: Final = r" ?: ?(?:[\d\"'{\[\\<-]|(?:true|false|null|None|True|False)\b)"
_OPENED: Final = (
    # {"error": "…, 'code': '…
    rf"{_KEY}\\?[\"'](?:{_SPOKEN})\\?[\"'] ?: ?\\?[\"']"
    # {"id": 5, the quote of any other key
    rf"|{_KEY}\\?[\"'](?=[\w.<>-]++\\?[\"']{_COLON})"
    # msg="…, message: "…
    rf"|(?:(?:{_SPOKEN}) ?=|(?:message|msg|desc) ?:) ?\\?[\"']"
    # OSError(5, '…, OperationalError: (2003, "…, but KeyError('… only names the key
    r"|(?<![\w.])[\w.]++(?:(?<=Error)|(?<=Exception))(?<!KeyError)(?::? ?\(-?\d{1,5}, ?|\()[bu]?[\"']"
)

# What names the case, and goes.
_QUOTED: Final = (
    r"[bru]?(?:'\[[^\[\]]*+\]'|'(?:[^'\\]++|\\.)*+'|\"(?:[^\"\\]++|\\.)*+\"|\\\"[^\"\\]*+\\\"|`[^`']*+[`']"
    r"|\u2018[^\u2018\u2019]*+\u2019|\u201c[^\u201c\u201d]*+\u201d)"
)
_VALUE: Final = rf"(?<![^\s(\[{{=:,;|@])(?![\"']{_HTTP_ERROR}){_QUOTED}(?:, ?{_QUOTED}(?!{_COLON}))*+"
"""One value or a list of them, which may be of any length. An apostrophe opens no quote."""

_URL: Final = r"[A-Za-z][A-Za-z0-9+.-]{1,15}://[^\s\"'<>`|()\[\]{}]*[^\s\"'<>`|()\[\]{}.,:;!?…]"
_FILES: Final = (
    "avro|bin|bz2|csv|dat|docx?|gif|gz|html?|jpe?g|jsonl?|log|md|mp[34]|ndjson|orc|parquet|pdf|png|svg|tar|tgz|tiff?"
    "|tmp|tsv|txt|wav|webp|xlsx?|xml|ya?ml|zip|zst"
)
"""Endings by which a bare name is known as that of data. A file of source code tells where it failed, and stays."""
_PATH: Final = (
    # /a, ./a, ~/a
    r"(?<![\w.<>/~@%+-])(?:~|\.{1,2})?/[\w.@+~%=$#&?*/-]*[\w@+~%=$#&*/-]"
    # a/b/c, a/b.c, a.csv, but neither 1/2 nor Input/output nor application/json
    r"|(?<![\w.@+~%/-])(?!(?<=>)[_.@+~%-]|\d+/\w+(?:/\d+)?(?![\w/.-]))(?:[\w.@+~%-]++(?:/[\w.@+~%=-]+){2,}/?"
    rf"|[\w.@+~%-]++/[\w.@+~%-]*\.[A-Za-z][^\W_]{{0,4}}(?![\w/-])|[\w.@+~%-]+\.(?:{_FILES})(?![\w/-]))"
    # C:\a b\c, \\a\b
    r"|[A-Za-z]:\\(?:[\w .()+~%-]*\\)*[\w.+~%-]*|(?<![\w\\>])\\\\[\w.-]+(?:\\[\w.$-]+)+"
)
_DOMAINS: Final = "com|org|net|edu|gov|io|ai|dev|app|cloud|info|eu|uk|de|fr|local|internal|svc|test|example|invalid"
_HOST: Final = (
    rf"(?<![\w.-])(?:(?:[\w-]++\.)+(?:{_DOMAINS})(?![\w-]|\.[\w<])|\d{{1,3}}(?:\.\d{{1,3}}){{3}}(?!\w|\.\w))"
    rf"(?::\d++{_END})?(?:/[\w./%~+@-]*)?"
    r"|(?=[a-fA-F:]{0,35}\d)(?:(?:[0-9a-fA-F]{1,4}:){7}|(?:[0-9a-fA-F]{1,4}:){1,6}(?::[0-9a-fA-F]{1,4}){0,5}:)"
    r"[0-9a-fA-F]{1,4}(?!\w|:\w)"
)
_EMAIL: Final = r"(?<![\w.+-])[\w.+-]++@[\w-]++(?:\.[\w-]++)+"

_MONTH: Final = "(?:Jan|Feb|Mar|Apr|May|June?|July?|Aug|Sept?|Oct|Nov|Dec)[a-z]*"
_CLOCK: Final = r"\d\d?:\d\d(?::\d\d)?(?:[.,]\d+)?(?: ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d))?"
_TIME: Final = (
    rf"(?:\d{{4}}[-/]\d\d[-/]\d\d|\d\d?[-/](?:\d\d?|{_MONTH})[-/]\d{{4}}"
    rf"|(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?(?:{_MONTH} \d\d?|\d\d?[ -]{_MONTH})(?:[ ,-]{{1,2}}\d{{4}})?)"
    rf"(?:(?:T|_|:|,? ){_CLOCK}(?: (?:19|20)\d\d)?)?(?![^\W_]|/)|\d\d?:\d\d:\d\d(?:[.,]\d+)?(?![^\W_]|:\w)"
)
_UUID: Final = rf"[0-9a-fA-F]{{8}}(?:-[0-9a-fA-F]{{4}}){{3}}-[0-9a-fA-F]{{12}}{_END}"
_HEX: Final = (
    r"(?:0[xX][0-9a-fA-F]+|(?=[a-fA-F]*\d)(?=\d*[a-fA-F])[0-9a-fA-F]{16,}|[0-9a-fA-F]{2}(?::[0-9a-fA-F]{2}){5,})"
    rf"{_END}"
)
_RANDOM: Final = "[bcdfghjklmnpqrstvwxz2456789]"
"""What Kubernetes makes its random suffixes of."""
_POD: Final = (
    r"(?<![\w-])[a-z0-9]++(?:-++[a-z0-9]++)*?"
    rf"-++(?:{_RANDOM}{{8,10}}-{_RANDOM}{{5}}|[a-z2-7]{{10}}-d\d++(?:-{_RANDOM}{{5}})?)(?![\w-])"
)
_NUMBER: Final = r"[^\W\d_]*+\d[^\W_]*+"
"""Any word with a digit: a number, with a unit or without, a short hash, a random id. Those in hexadecimal or base 36
are all digits now and then, so that a placeholder of their own would split groups."""
_N: Final = (
    rf"(?:(?<![\w>])[-+](?=\d))?{_NUMBER}(?:(?:[.:/]|, ?)(?!{_HTTP_ERROR}){_NUMBER})*+(?:(?<=\d[eE])[-+]\d+{_END})?"
    rf"(?:%{_END}| (?:[kKMGTP]i?B|B|bytes?|ns|us|µs|ms|s|secs?|min|h|(?:milli)?seconds?|minutes?|hours?|days?){_END})?"
)
"""Also 1,024 and 1.2.3 and 12:5 and 1, 2, 3: as long as it may be, it is one."""

_TOKEN: Final = re.compile(
    rf"{_START}(?! |{_PLAIN})(?:"
    rf"(?=[^\W_])(?:(?i:{_CODES})|{_HTTP_ERROR}|(?P<url>{_URL})|(?P<time>{_TIME}))"
    rf"|{_OPENED}|(?P<path>{_PATH})"
    rf"|(?=[^\W_])(?:(?P<uuid>{_UUID})|(?P<pod>{_POD})|(?P<email>{_EMAIL})|(?P<host>{_HOST})"
    rf"|(?:{_NAMES}){_END}|(?P<hex>{_HEX}))"
    rf"|(?P<value>{_VALUE})|(?P<n>{_N}))"
)
