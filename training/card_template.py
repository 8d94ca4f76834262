"""The text of a model card's page; `training.card_page` fills it in."""

# ruff: noqa: E501 - a table's cells stand on one line, or the page would show the breaks

from typing import Final

TEMPLATE: Final = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ facts.get("name", "model") }} {{ facts.get("version", "") }}: model card</title>
<style>
:root { color-scheme: light; }
body { font: 15px/1.55 system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif; color: #1a1f26; background: #f6f7f9;
  margin: 0; padding: 2rem 1rem 4rem; }
main { max-width: 66rem; margin: 0 auto; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; }
h2 { font-size: 1.05rem; margin: 0 0 .7rem; }
[lang=zh] { color: #5a6472; font-weight: 400; margin-inline-start: .5em; }
section { background: #fff; border: 1px solid #dfe3e8; border-radius: 8px; padding: 1.1rem 1.3rem; margin: 1rem 0; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .32rem .6rem .32rem 0; border-top: 1px solid #edf0f3; vertical-align: top;
  font-weight: 400; overflow-wrap: anywhere; }
thead th { border-top: 0; color: #5a6472; font-size: .88rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.quiet { color: #5a6472; }
.passed, .refused { font-weight: 600; border-radius: 5px; padding: .1rem .5rem; }
.passed { background: #e2f2e6; color: #17602c; }
.refused { background: #fbe4e2; color: #9a1c14; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(21rem, 1fr)); gap: 1.2rem; }
figure { margin: 0; }
figcaption { font-weight: 600; margin-bottom: .3rem; }
svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
@media print { body { background: #fff; padding: 0; } section { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<h1>{{ facts.get("name", "model") }} {{ facts.get("version", "") }}</h1>
<div class="quiet">Model card <span lang="zh">模型卡</span>{% if created %} · {{ created }}{% endif %}</div>

<section>
<h2>Use and limits <span lang="zh">用途与限制</span></h2>
<p>Scores card and account payments of this bank from 0 to 1 as the probability of fraud, for its own decision policy and its
analysts. Not for judging people: a score says nothing of a customer's honesty, and must not be used for credit, employment or
pricing. Known for the days, channels and countries below; for others, and after fraud has changed, nothing is promised.
Labels are what had become known by the cut-off: fraud that nobody reported counts as genuine. Figures of declined payments rest on the
sample that was let through, where there was one.</p>
<p lang="zh">以 0 至 1 的评分表示本行支付交易的欺诈概率，供本行决策策略与分析人员使用。不得用于评判个人：评分不说明客户是否诚信，不得用于信贷、雇佣或定价。
仅适用于下列日期、渠道与国家；对其他情形或欺诈手法变化之后不作保证。标签为截止时已知的信息：无人报告的欺诈计为正常。对被拒交易的数据依据抽样放行的部分。</p>
</section>

{% if gate %}
<section>
<h2>Gate <span lang="zh">准入检查</span> <span class="{{ gate.verdict }}">{{ gate.verdict }}</span></h2>
<div class="wide"><table>
<thead><tr><th>Check <span lang="zh">检查</span></th><th>Finding <span lang="zh">结果</span></th></tr></thead>
<tbody>
{% for each in gate.checks|sort(attribute="passed") %}
<tr><th>{{ each.name }}{% if each.part %}<br><span class="quiet">{{ each.part }}</span>{% endif %}<br>
{% if not each.judged %}<span class="quiet">–</span>{% elif each.passed %}<span class="passed">passed</span>{% else %}<span class="refused">refused</span>{% endif %}</th>
<td>{{ each.words }}<br><span lang="zh">{{ each.words_zh }}</span></td></tr>
{% endfor %}
</tbody></table></div>
</section>
{% endif %}

<section>
<h2>Metrics on the test days <span lang="zh">测试日期的指标</span></h2>
<div class="wide"><table>
<thead><tr><th>Metric <span lang="zh">指标</span></th><th class="number">Value <span lang="zh">数值</span></th><th class="number">19 of 20 cases <span lang="zh">95% 区间</span></th></tr></thead>
<tbody>
{% for en, zh, value, spread in metrics %}
<tr><th>{{ en }} <span lang="zh">{{ zh }}</span></th><td class="number">{{ value }}</td><td class="number">{{ spread or "–" }}</td></tr>
{% endfor %}
</tbody></table></div>
</section>

{% if pictures %}
<section>
<h2>Pictures <span lang="zh">图表</span></h2>
<div class="pictures">
{% for en, zh, svg in pictures %}
<figure><figcaption>{{ en }} <span lang="zh">{{ zh }}</span></figcaption>{{ svg|safe }}</figure>
{% endfor %}
</div>
<p class="quiet">Vertical lines: review from (dotted) and decline from (dashed). <span lang="zh">竖线：审核阈值（点线）与拒绝阈值（虚线）。</span></p>
</section>
{% endif %}

<section>
<h2>Thresholds and costs <span lang="zh">阈值与成本</span></h2>
{% if held is not none %}
<p class="refused">Held: these thresholds would decline {{ "%.2f"|format(100 * held) }} % of all payments; the version decides only after a person accepted that. <span lang="zh">已搁置：这些阈值将拒绝全部支付的 {{ "%.2f"|format(100 * held) }}%，须经人工接受后方可决策。</span></p>
{% endif %}
<table><tbody>
{% for name, words, zh in (("review_at", "Review from", "审核起点"), ("decline_at", "Decline from", "拒绝起点")) if name in policy %}
<tr><th>{{ words }} <span lang="zh">{{ zh }}</span></th><td class="number">{{ "never · 从不" if policy[name] > 1 else number(policy[name]) }}</td></tr>
{% endfor %}
{% for name, value in costs.get("assumed", {}).items() %}
<tr><th>{{ name }} <span class="quiet">assumed</span> <span lang="zh">假设</span></th><td class="number">{{ number(value) }}</td></tr>
{% endfor %}
{% for name, value in costs.get("spent", {}).items() %}
<tr><th>{{ name }} <span class="quiet">on the test days</span> <span lang="zh">测试日期</span></th><td class="number">{{ number(value) }}</td></tr>
{% endfor %}
</tbody></table>
</section>

{% if slices %}
<section>
<h2>By slice <span lang="zh">分组</span></h2>
<div class="wide"><table>
<thead><tr><th>Slice <span lang="zh">分组</span></th><th class="number">Rows <span lang="zh">行数</span></th><th class="number">Frauds <span lang="zh">欺诈</span></th><th class="number">Average precision <span lang="zh">平均精度</span></th><th class="number">ROC AUC</th></tr></thead>
<tbody>
{% for name, each in slices %}
<tr><th>{{ name }}</th><td class="number">{{ number(each.get("rows")) }}</td><td class="number">{{ number(each.get("frauds")) }}</td><td class="number">{{ number(each.get("ap")) }}</td><td class="number">{{ number(each.get("auc")) }}</td></tr>
{% endfor %}
</tbody></table></div>
</section>
{% endif %}

<section>
<h2>How it was made <span lang="zh">制作过程</span></h2>
<table><tbody>
{% for en, zh, value in made %}
<tr><th>{{ en }} <span lang="zh">{{ zh }}</span></th><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table>
</section>
</main>
</body>
</html>
"""
