"""`qadvisor recommend`: the best recipe, the runners-up, what was ruled out and why."""

from pathlib import Path
from typing import Annotated, Any

import typer

from advisor.cli import options, output
from advisor.cli.groups import new_app
from knowledge.errors import InvalidRequestError, QAdvisorError

app = new_app()

RequestFile = Annotated[
    Path | None,
    typer.Option("--request", metavar="FILE", help="Request declared in YAML (one, or a list), instead of the options above."),
]
Top = Annotated[str | None, typer.Option("--top", metavar="N", help="How many recipes to show (3 if not given).")]


@app.command()
def recommend(
    model: options.Model = None,
    task: options.Task = None,
    mem: options.Memory = None,
    context: options.Context = None,
    batch: options.Batch = None,
    hardware: options.Hardware = None,
    engine: options.Engine = None,
    max_loss: options.MaxLoss = None,
    objective: options.Objective = None,
    probe: options.Probe = None,
    top: Top = None,
    online: options.Online = False,
    exclude_licence: options.ExcludeLicence = None,
    request: RequestFile = None,
    json: options.Json = False,
    markdown: options.Markdown = False,
) -> int:
    """Recommend a bit-width and quantization method for a model, a task and a memory budget.

    Example: qadvisor recommend --model mistral-7b --task long-context --mem 16GB
    """
    from advisor.request import load_requests, make_request

    values = options.request_values(
        model=model, task=task, memory=mem, context=context, batch=batch, hardware=hardware, engine=engine, max_loss=max_loss,
        objective=objective, probe=str(probe) if probe else None, top=top, online=online,
        exclude_licences=tuple(exclude_licence) if exclude_licence else None,
    )  # fmt: skip
    if request is None:
        return _answer_one(make_request(values), as_json=json, markdown=markdown)
    if values:
        raise InvalidRequestError(
            "--request stands alone: the file says what is asked", given=", ".join(sorted(values)), allowed="--request FILE"
        )
    requests = load_requests(request)
    if len(requests) == 1:
        return _answer_one(requests[0], as_json=json, markdown=markdown)
    return _answer_all(requests, as_json=json, markdown=markdown)


def _answer_one(request: Any, *, as_json: bool, markdown: bool) -> int:
    from advisor.recommendation import advise

    _write(advise(request), as_json=as_json, markdown=markdown)
    return 0


def _answer_all(requests: list[Any], *, as_json: bool, markdown: bool) -> int:
    """Answer each request; one that fails does not stop the others. The code is that of the first that failed."""
    from advisor.cli.errors import error_document, exit_code, show_error
    from advisor.recommendation import advise

    documents, code = [], 0
    for request in requests:
        try:
            answer = advise(request)
        except QAdvisorError as error:
            code = code or exit_code(error)
            documents.append(error_document(error))
            if not as_json:
                show_error(error, as_json=False, debug=False)
            continue
        documents.append(answer.as_dict())
        if not as_json:
            _write(answer, as_json=False, markdown=markdown)
    if as_json:
        output.write_json(documents)
    return code


def _write(answer: Any, *, as_json: bool, markdown: bool) -> None:
    if as_json:
        output.write_text(answer.to_json() + "\n")
    elif markdown:
        from advisor.report_markdown import to_markdown

        output.write_text(to_markdown(answer))
    else:
        from advisor.report import render

        output.write_rich(render(answer))
