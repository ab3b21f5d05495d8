"""The demo's agent: it answers a question about a hundred reports in iterations that recurse to a smaller model.

Like most agents it has a long, constant system prompt, constant tools and a history that grows at its end, which suits
prompt caches. In one iteration it makes a common mistake: it puts the time of day at the start of the prompt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openai import OpenAI

    from rlm_cachetrack.runs import QueryRun, Recursion

ITERATIONS = 6
STREAM_IN = 3
"""The iteration whose sub-call is streamed."""
MISTAKE_IN = 4
"""The iteration whose prompt starts differently, so that no part of it is cached."""

_MAX_TOKENS = 1_500  # limit per response, so that a live demo costs only a few cents
_SITES = ("Aldgate", "Bergen", "Cork", "Delft", "Esbjerg", "Faro", "Gdansk", "Halle", "Ivrea", "Jena")
_SUBJECTS = (
    "inspection of the pumps",
    "survey of the cables",
    "audit of the stores",
    "test of the alarms",
    "review of the shifts",
    "count of the spare parts",
    "check of the meters",
    "repair of the roof",
    "training of the crew",
    "trial of the new filter",
)
_RULES = """\
You are the root of a recursive language model. You answer questions about a collection of reports that is far too long
for one prompt. You never see a report whole: you see the index below, you fetch sections with the tool read_section,
and you hand each section to a smaller model that summarises it for you. Work in iterations. In each, decide which
section could change your answer most, fetch it, wait for the summary, and write down what you know and what is missing.

Rules:
1. Fetch one section at a time, and never the same section twice.
2. Trust the text of a section over its title, and a later report over an earlier one.
3. Name the report and the section for every fact that you use. A fact without a source is left out.
4. Where two reports contradict each other, say so; do not average them.
5. Answer with what is known when the iterations end. Say plainly what remains open, and how it could be found out.
6. Keep to the subject of the question. The collection holds much that is of no interest here.

Index of the collection (number, site, subject, sections, pages):
"""
_INDEX = "\n".join(
    f"R{number:03}  {_SITES[number % 10]:<8}  {_SUBJECTS[number // 10]:<24}  sections 1-{3 + number % 5}, "
    f"pages {number * 7 + 1}-{number * 7 + 6}"
    for number in range(100)
)
SYSTEM_PROMPT = _RULES + _INDEX
_SUB_PROMPT = (
    "You summarise one section of a report for another model, which has not read it and never will. Say what was "
    "measured, where and when, by whom, and with which result; quote figures as they stand, with their units; name "
    "what was planned but not done. Leave out politeness, history and opinions. Use at most five short sentences. If "
    "the section does not bear on the question, answer with the single word: nothing.\n\nThe sites, for reference:\n"
    + "\n".join(
        f"R{10 * row + column:03}, {site}: {subject}, begun in {2015 + row}"
        for column, site in enumerate(_SITES)
        for row, subject in enumerate(_SUBJECTS)
    )
)
_QUESTION = "Which site needs money most urgently, and for what? Name the reports that you rely on."
_TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "read_section",
            "description": "The text of one section of a report.",
            "parameters": {
                "type": "object",
                "properties": {
                    "report": {"type": "string", "description": "Number of the report, such as R042."},
                    "section": {"type": "integer", "minimum": 1},
                },
                "required": ["report", "section"],
                "additionalProperties": False,
            },
        },
    }
]
_READ: Any = {"type": "function", "function": {"name": "read_section"}}


def answer_question(sdk: OpenAI, run: QueryRun, model: str, sub_model: str) -> None:
    """Run the conversation; each iteration calls ``model`` once and ``sub_model`` once or twice. Blocks."""
    messages: list[Any] = [
        {"role": "system", "content": SYSTEM_PROMPT},
        {"role": "user", "content": _QUESTION},
    ]
    for step in run.iterations(range(1, ITERATIONS + 1)):
        last = step == ITERATIONS
        prompt = messages
        if step == MISTAKE_IN:
            prompt = [{"role": "system", "content": f"It is 14:0{step}.\n{SYSTEM_PROMPT}"}, *messages[1:]]
        response = sdk.chat.completions.create(
            model=model,
            messages=prompt,
            tools=_TOOLS,
            tool_choice="none" if last else _READ,
            max_completion_tokens=_MAX_TOKENS,
        )
        message = response.choices[0].message
        if last:
            with run.recursion("checker", max_depth=2) as checker:
                _check(sdk, checker, sub_model, message.content or "")
            return
        messages.append(message.model_dump(exclude_none=True))
        for call in message.tool_calls or ():
            section = _section(step)
            with run.recursion("sub", max_depth=2):
                summary = _summarise(sdk, sub_model, section, streamed=step == STREAM_IN)
            messages.append({"role": "tool", "tool_call_id": call.id, "content": f"{section}\n\nSummary: {summary}"})
        messages.append({"role": "user", "content": f"Iteration {step} of {ITERATIONS} is over. Go on."})


def _summarise(sdk: OpenAI, model: str, section: str, *, streamed: bool) -> str:
    messages: list[Any] = [
        {"role": "system", "content": _SUB_PROMPT},
        {"role": "user", "content": f"Question: {_QUESTION}\n\n{section}"},
    ]
    if not streamed:
        response = sdk.chat.completions.create(model=model, messages=messages, max_completion_tokens=_MAX_TOKENS)
        return response.choices[0].message.content or ""
    with sdk.chat.completions.create(
        model=model, messages=messages, max_completion_tokens=_MAX_TOKENS, stream=True
    ) as chunks:
        return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def _check(sdk: OpenAI, checker: Recursion, model: str, answer: str) -> None:
    """Check the final answer through the Responses API, with one more recursion below it."""
    verdict = sdk.responses.create(
        model=model,
        instructions=_SUB_PROMPT,
        input=f"Does this answer name its reports? {answer}",
        max_output_tokens=_MAX_TOKENS,
    )
    with checker.recursion("sub"):
        _summarise(sdk, model, f"A verdict: {verdict.output_text}", streamed=False)


def _section(step: int) -> str:
    """Return a section of a report, about a page long. The same step gives the same text."""
    lines = [
        f"{10 * step + day}.{step}  At {_SITES[(step + day) % 10]} the {_SUBJECTS[(step * 3 + day) % 10]} took "
        f"{2 + (step * day) % 7} hours; {(step + day) % 4} of {4 + day % 5} points were out of order, put at "
        f"{150 * (day + step)} euros."
        for day in range(1, 16)
    ]
    return f"R{step * 11:03}, section {step}\n" + "\n".join(lines)
