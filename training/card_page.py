"""The model card for people: one HTML file that needs nothing else, with English and Chinese headings.

It is written beside a version when it is published, and its digest is among those of the version's files: what was
known of a model when it was judged stays with it.
"""

import datetime
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from plumbline.declines import decline_share
from training.bootstrap import draw
from training.card_plots import plots
from training.card_template import TEMPLATE
from training.costs import Costs, Thresholds
from training.metrics import ScoredRows
from training.resampled import resampled, shown

Facts = Mapping[str, Any]

INTERVAL_SEED: Final = 0
RESAMPLES: Final = 200

METRICS: Final = {
    "ap": ("Average precision", "平均精度"),
    "ap_unblocked": ("Average precision, cards not yet blocked", "平均精度（尚未冻结的卡）"),
    "auc": ("ROC AUC", "ROC 曲线下面积"),
    "auc_unblocked": ("ROC AUC, cards not yet blocked", "ROC 曲线下面积（尚未冻结的卡）"),
    "cp100": ("Card precision@100", "前 100 张卡精度"),
    "cp100_unblocked": ("Card precision@100, cards not yet blocked", "前 100 张卡精度（尚未冻结的卡）"),
    "review_recall": ("Recall at the review capacity", "审核容量内召回率"),
    "review_precision": ("Precision at the review capacity", "审核容量内精度"),
    "cost": ("Expected cost a transaction, minor units", "每笔交易预期成本（最小货币单位）"),
    "ece": ("Calibration error", "校准误差"),
    "ece_unblocked": ("Calibration error, cards not yet blocked", "校准误差（尚未冻结的卡）"),
    "calibration_slope": ("Calibration slope (1 is right)", "校准斜率（1 为准确）"),
    "calibration_bias": ("Calibration bias (0 is right)", "校准偏移（0 为准确）"),
    "expected_ratio": ("Frauds foretold over frauds there were", "预测欺诈数与实际之比"),
    "review_share": ("Share reviewed under the thresholds", "阈值下的审核占比"),
    "brier": ("Brier score", "Brier 分数"),
    "brier_unblocked": ("Brier score, cards not yet blocked", "Brier 分数（尚未冻结的卡）"),
}  # fmt: skip
PICTURES: Final = {
    "precision_recall": ("Precision and recall", "精度与召回率"),
    "reliability": ("Scores as probabilities", "评分作为概率的可靠性"),
    "scores": ("Scores of genuine and fraudulent payments", "正常与欺诈交易的评分分布"),
    "costs": ("Cost by the review threshold", "成本与审核阈值"),
}
MADE: Final = {
    "train": ("Training days", "训练日期"),
    "delay_days": ("Days until labels are known", "标签延迟天数"),
    "test": ("Test days", "测试日期"),
    "cut_off": ("Cut-off", "截止时间"),
    "run": ("Run", "运行"),
    "rows": ("Rows", "行数"),
    "seed": ("Seed", "随机种子"),
    "epochs": ("Epochs", "训练轮数"),
    "calibration": ("Calibration", "校准"),
    "archive_digest": ("Digest of the archive", "档案摘要"),
    "fingerprint": ("Declaration", "特征声明"),
    "code_commit": ("Commit of the code", "代码提交"),
    "lock_sha256": ("Digest of the lock file", "依赖锁定文件摘要"),
    "weights_sha256": ("Digest of the weights", "权重摘要"),
    "made_by": ("Made by", "制作者"),
    "tensorflow": ("TensorFlow", "TensorFlow"),
}


def page_of(
    rows: ScoredRows, thresholds: Thresholds, costs: Costs, champion: ScoredRows | None = None
) -> Callable[[Facts], bytes]:
    """What `training.export.publish` takes as `page`, with plots and intervals of the rows already made.

    rows: the test rows as the version scored them, amounts included, with at least one fraud and one genuine row;
    champion: the champion's scores of the same window, drawn beside.
    """
    drawn = plots(rows, thresholds, costs, champion)
    ordered = rows.in_order()
    found = shown(resampled(ordered, draw(ordered.accounts, INTERVAL_SEED, RESAMPLES), thresholds, costs))
    intervals = {name: {"value": each.estimate, "low": each.low, "high": each.high} for name, each in found.items()}
    return partial(page, drawn=drawn, intervals=intervals)


def page(
    facts: Facts, drawn: Mapping[str, str] | None = None, intervals: Mapping[str, Mapping[str, float]] | None = None
) -> bytes:
    """The card as one UTF-8 HTML file: no script, nothing loaded from anywhere.

    facts: what `plumbline.json` says; drawn: SVG by name; intervals: `value`, `low`, `high` by metric, of 19 cases of
    20. Every word of the facts is escaped; what is missing is left out.
    """
    judged = (facts.get("gate") or {}).get("metrics", {}).get("candidate", {})
    spread = {**judged, **(intervals or {})}
    values = {**facts.get("metrics", {}), **{name: each["value"] for name, each in (intervals or {}).items()}}
    metrics = [
        (*words, _number(values[name]), _interval(spread.get(name)))
        for name, words in METRICS.items()
        if values.get(name) is not None
    ]
    made = [(*words, _told(facts[name])) for name, words in MADE.items() if facts.get(name) not in (None, "")]
    pictures = [(*PICTURES[name], svg) for name, svg in (drawn or {}).items()]
    text = _template.render(
        facts=facts, created=_moment(facts.get("created_at")), metrics=metrics, made=made, pictures=pictures,
        slices=sorted(facts.get("slices", {}).items()), gate=facts.get("gate"), policy=facts.get("policy", {}),
        costs=facts.get("costs") or {}, held=decline_share(facts), number=_number, interval=_interval,
    )  # fmt: skip
    return text.encode()


def _number(value: Any) -> str:
    if value is None:
        return "–"
    number = float(value)
    return f"{number:,.0f}" if number == int(number) and abs(number) >= 10 else f"{number:,.5g}"


def _interval(found: Mapping[str, Any] | None) -> str:
    if not found or found.get("low") is None or found["low"] != found["low"]:
        return ""
    return f"{_number(found['low'])} … {_number(found['high'])}"


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {_told(each)}" for name, each in value.items())
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _moment(at_us: Any) -> str:
    if not isinstance(at_us, int):
        return ""
    moment = datetime.datetime.fromtimestamp(at_us / 1_000_000, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M} UTC"


_template = Environment(
    autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
).from_string(TEMPLATE)  # fmt: skip
