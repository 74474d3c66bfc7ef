"""Decisions as they are kept with a payout, and whether two of them are the same to the last figure."""

from collections.abc import Mapping
from typing import Any

from service.domain.withholding.model import Caution, Decision, Duty, Key, Part


def to_json(decision: Decision) -> dict[str, Any]:
    """Everything of a decision, for a JSON column."""
    return {
        "rule": decision.rule,
        "gross_minor": decision.gross_minor,
        "withheld_minor": decision.withheld_minor,
        "borne_minor": decision.borne_minor,
        "accumulates": decision.accumulates,
        "cautions": [caution.value for caution in decision.cautions],
        "parts": [
            {
                "rule": part.key.rule,
                "duty": part.key.duty.value,
                "period": part.key.period,
                "base_minor": part.base_minor,
                "tax_minor": part.tax_minor,
                "steps": dict(part.steps),
            }
            for part in decision.parts
        ],
    }


def of_json(kept: Mapping[str, Any]) -> Decision:
    """Read what `to_json` wrote."""
    return Decision(
        rule=kept["rule"],
        gross_minor=kept["gross_minor"],
        withheld_minor=kept["withheld_minor"],
        borne_minor=kept["borne_minor"],
        parts=tuple(
            Part(
                Key(part["rule"], Duty(part["duty"]), part["period"]),
                base_minor=part["base_minor"],
                tax_minor=part["tax_minor"],
                steps=part["steps"],
            )
            for part in kept["parts"]
        ),
        cautions=tuple(Caution(caution) for caution in kept["cautions"]),
        accumulates=kept["accumulates"],
    )


def same(approved: Decision, now: Decision) -> bool:
    """Whether what would be decided now is what was approved: rule, periods and amounts. Cautions may differ."""
    return (
        approved.rule == now.rule
        and (approved.gross_minor, approved.withheld_minor, approved.borne_minor)
        == (now.gross_minor, now.withheld_minor, now.borne_minor)
        and [(part.key, part.base_minor, part.tax_minor) for part in approved.parts]
        == [(part.key, part.base_minor, part.tax_minor) for part in now.parts]
    )
