"""The declared table of the gate: what a candidate must reach, how much worse than the champion it may be, and why."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from plumbline.errors import InvalidSetting

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
Ratio = Annotated[float, Meta(ge=1)]
Count = Annotated[int, Meta(ge=0)]


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a candidate must keep; a JSON object with any of these fields replaces the defaults."""

    alpha: Annotated[
        float,
        Meta(gt=0, le=0.5, description="Probability that an equal candidate is called worse, all checks together."),
    ] = 0.05
    resamples: Annotated[
        int, Meta(ge=100, le=10_000, description="Resamples of the accounts behind every interval.")
    ] = 500
    rows_least: Annotated[Count, Meta(description="Labelled rows that the window must hold.")] = 1_000
    frauds_least: Annotated[Count, Meta(description="Defrauded accounts that the window must hold.")] = 50
    lift_least: Annotated[
        Positive, Meta(description="Average precision over the window's share of frauds, at least.")
    ] = 5.0
    caught_lift_least: Annotated[
        Positive, Meta(description="Recall at the review capacity over the share that is reviewed, at least.")
    ] = 5.0
    cost_share_most: Annotated[
        Positive, Meta(description="Expected cost over that of approving every payment, at most.")
    ] = 1.0
    expected_ratio_most: Annotated[
        Ratio, Meta(description="Frauds foretold may be so many times those there were, or the other way round.")
    ] = 1.5
    ap_drop_most: Annotated[
        Share, Meta(description="Average precision that may be lost, however wide the interval.")
    ] = 0.05
    cp100_drop_most: Annotated[Share, Meta(description="Card precision@100 that may be lost.")] = 0.05
    recall_drop_most: Annotated[Share, Meta(description="Recall at the review capacity that may be lost.")] = 0.05
    cost_rise_most: Annotated[
        Share, Meta(description="Share of the champion's expected cost that may come on top.")
    ] = 0.1
    ece_rise_most: Annotated[Share, Meta(description="Calibration error that may come on top.")] = 0.005
    ece_slack: Annotated[
        float, Meta(ge=0, lt=1, description="Calibration error that may come on top although it is no chance.")
    ] = 0.0005
    slice_frauds_least: Annotated[Count, Meta(description="Defrauded accounts of a slice that is judged.")] = 30
    slice_lift_least: Annotated[
        Positive, Meta(description="A slice's average precision over its share of frauds, at least.")
    ] = 2.0
    slice_drop_most: Annotated[Share, Meta(description="Average precision of one slice that may be lost.")] = 0.15
    seeds_least: Annotated[Count, Meta(description="Seeds that must have been fitted; 0: none need be.")] = 0
    seeds_spread_most: Annotated[
        Share, Meta(description="Distance of the best and the worst seed's average precision, at most.")
    ] = 0.05
    load_ratio_most: Annotated[
        Ratio, Meta(description="Reviews under the candidate's thresholds may be so many times the capacity.")
    ] = 1.1
    labels_changed_most: Annotated[Share, Meta(description="Share of earlier truths that are different now.")] = 0.02
    labels_unknown_most: Annotated[Share, Meta(description="Share of labels of transactions nobody knows.")] = 0.05
    labels_contradicting_most: Annotated[Share, Meta(description="Share of labels that contradict another one.")] = 0.05
    fraud_rate_ratio_most: Annotated[
        Ratio, Meta(description="The newest share of frauds may be so many times that of the weeks before, or less.")
    ] = 3.0
    model_bytes_most: Annotated[Count, Meta(description="Size of the version's files, bytes.")] = 200_000_000
    latency_ms_most: Annotated[Positive, Meta(description="99 of 100 single rows are scored within this, CPU ms.")] = (
        50.0
    )
    latency_ratio_most: Annotated[Ratio, Meta(description="That time may be so many times the champion's.")] = 3.0
    latency_floor_ms: Annotated[
        Positive, Meta(description="A time below this is never too slow against the champion's, ms.")
    ] = 10.0
    parity_needed: Annotated[
        bool, Meta(description="Whether a candidate that no server was asked about is refused.")
    ] = False


Name = Literal[
    "evidence", "labels_changed", "labels_unknown", "labels_contradicting", "fraud_rate",
    "lift", "caught_lift", "cost_share", "expected_ratio", "review_load", "decline_load",
    "comparable",
    "ap", "cp100", "review_recall", "cost", "ece", "slices", "slice_lift",
    "seeds", "parity", "size", "latency",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """One check: what it is called in sentences, its part of alpha (weight / all weights; 0: no chance in it), why."""

    name: Name
    weight: float
    en: str
    zh: str
    why: str


RULES: Final = (
    Rule("evidence", 0, "the evidence", "证据", "a small window proves nothing"),
    Rule("labels_changed", 0, "truths that changed since the last night", "自昨夜以来改变的标签",
         "labels turned round in bulk are poison, or a broken feed"),
    Rule("labels_unknown", 0, "labels of unknown transactions", "未知交易的标签", "a feed of somebody else's labels"),
    Rule("labels_contradicting", 0, "labels that contradict one another", "相互矛盾的标签", "one source is wrong"),
    Rule("fraud_rate", 0, "the newest share of frauds against the weeks before", "最新欺诈占比与此前数周之比",
         "a flood of fraud labels, or none at all, is poison until a person has looked"),
    Rule("lift", 0, "average precision over the share of frauds", "平均精度与欺诈占比之比", "it must know something"),
    Rule("caught_lift", 0, "recall at the review capacity over the share reviewed", "审核容量内召回率与审核占比之比",
         "people's time must be better spent than by lot"),
    Rule("cost_share", 0, "expected cost over that of approving everything", "预期成本与全部放行之比",
         "a model that costs more than none"),
    Rule("expected_ratio", 0, "frauds foretold over frauds there were", "预测欺诈数与实际之比",
         "scores are read as probabilities: by thresholds, and by the alert queue"),
    Rule("decline_load", 0, "declines under its thresholds", "在其阈值下的拒绝量",
         "a share that no bank's fraud can explain needs a person's word"),
    Rule("comparable", 0, "days from which the champion learned nothing", "冠军未曾学习的日期",
         "a model is the better for having seen the answers"),
    Rule("review_load", 0, "reviews under its thresholds", "在其阈值下的审核量", "people can look at so many"),
    Rule("ap", 2, "average precision", "平均精度", "the ranking as a whole"),
    Rule("cp100", 1, "card precision@100", "前 100 张卡精度", "what a day's team of analysts finds"),
    Rule("review_recall", 2, "recall at the review capacity", "审核容量内召回率", "what is caught in practice"),
    Rule("cost", 2, "expected cost a transaction", "每笔交易预期成本", "mistakes in money"),
    Rule("ece", 1, "calibration error", "校准误差", "scores are read as probabilities"),
    Rule("slices", 2, "average precision by slice", "分组平均精度", "an average hides a blind spot"),
    Rule("slice_lift", 0, "average precision of a slice over its share of frauds", "分组平均精度与其欺诈占比之比",
         "no slice may be left to luck"),
    Rule("seeds", 0, "spread over seeds", "不同随机种子之间的差距", "a candidate must not be a lucky draw"),
    Rule("parity", 0, "the parity gate", "一致性检查", "what serves must be what was judged"),
    Rule("size", 0, "size of the files", "文件大小", "servers hold several versions in memory"),
    Rule("latency", 0, "time to score one row", "单笔评分耗时", "callers wait"),
)  # fmt: skip
"""Every check, in the order in which they are shown."""

WEIGHTS: Final = sum(rule.weight for rule in RULES)
BY_NAME: Final = {rule.name: rule for rule in RULES}


def level_of(name: Name, limits: Limits) -> float:
    """A check's part of the probability that an equal candidate is called worse."""
    return limits.alpha * BY_NAME[name].weight / WEIGHTS


def read_limits(file: Path | None) -> Limits:
    """The limits in a JSON file, or the defaults without one. Raises InvalidSetting."""
    if file is None:
        return Limits()
    try:
        return msgspec.json.decode(file.read_bytes(), type=Limits)
    except (OSError, msgspec.MsgspecError) as error:
        raise InvalidSetting(f"gate limits {file}", "file", file.name, f"a JSON object of limits ({error})") from error
