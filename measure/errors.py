"""Errors of measuring, beneath those of `knowledge.errors`.

QAdvisorError
├── RequestError
│   └── NotApplicableError           (ValueError)  the method cannot be used on this family, scheme or device
├── QuantizationMismatchError        what was quantized is not what the recipe says; the cell fails
├── TaskDataError                    (ValueError)  a task's data are missing, empty or too short
└── JudgeError                       the judge cannot be reached, or does not answer in a form that can be read
"""

from knowledge.errors import QAdvisorError, RequestError


class NotApplicableError(RequestError, ValueError):
    """The recipe cannot be run on this model or device; the message says why."""

    code = "not_applicable"


class QuantizationMismatchError(QAdvisorError):
    """What was quantized differs from what the recipe says."""

    code = "quantization_mismatch"


class JudgeError(QAdvisorError):
    """The model that grades answers gave none that can be used."""

    code = "judge"


class TaskDataError(QAdvisorError, ValueError):
    """The data of a task, or text for calibration, cannot be used."""

    code = "task_data"
