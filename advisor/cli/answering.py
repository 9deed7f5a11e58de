"""What `qadvisor recommend` does once its command line has been read."""

from pathlib import Path
from typing import Any

from advisor.cli import output
from advisor.cli.flags import request_values
from knowledge.errors import InvalidRequestError, QAdvisorError


def answer_command(
    *,
    mem: str | None = None,
    probe: Path | None = None,
    exclude_licence: list[str] | None = None,
    request: Path | None = None,
    json: bool = False,
    markdown: bool = False,
    **options: str | bool | None,
) -> int:
    """Answer the request of the options, or those of a file, on stdout.

    Args:
        mem: `--mem`.
        probe: `--probe`.
        exclude_licence: values of `--exclude-licence`.
        request: `--request`, which stands alone.
        json: print JSON.
        markdown: print Markdown.
        **options: the options that are fields of a request, under the names of the fields.

    Returns:
        The exit code.

    Raises:
        InvalidRequestError: options stand beside `--request`, or the request cannot be understood.
        NoAnswerError: nothing satisfies it.
    """
    _use_one_thread()
    from advisor.request import load_requests, make_request

    values = request_values(
        **options, memory=mem, probe=str(probe) if probe else None,
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


def _use_one_thread() -> None:
    """Keep NumPy from starting threads that an answer has no use for: starting them costs more than the arithmetic."""
    import os

    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _answer_one(request: Any, *, as_json: bool, markdown: bool) -> int:
    from advisor.kept_store import open_ahead

    open_ahead(request.exclude_licences)
    from advisor.past_requests import note_request
    from advisor.recommendation import advise

    _write(advise(request), as_json=as_json, markdown=markdown)
    note_request(request)
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
