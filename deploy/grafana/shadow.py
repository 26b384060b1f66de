"""The row *Shadow of a second model* of the dashboard on image quality."""

from deploy.grafana.panels import Panel, Row
from deploy.grafana.queries import MODEL, Query, mean, total

_NO_SHADOW = "No shadow (SEMSR_SHADOW_BUNDLE)"

ROW = Row(
    "Shadow of a second model",
    [
        Panel(
            "Shadow is running",
            [Query(f"sum by (model) (semsr_shadow_up{{{MODEL}}})", "{{model}}")],
            text="Instances on which the shadow of a model is ready to compare tiles.",
            do="if it is 0, GET /admin/shadow gives the reason.",
            empty=_NO_SHADOW,
            kind="stat",
            warn=1,
            bad=0.5,
            width=4,
        ),
        Panel(
            "Tiles drawn for the shadow",
            [
                Query(
                    total("semsr_shadow_tiles_total", "model, outcome", who=MODEL),
                    "{{model}} {{outcome}}",
                )
            ],
            text="Tiles by outcome: compared, skipped (busy, full, down, unsuitable), or failed.",
            do="if few are compared, the machine has no idle time: wait for a quieter hour.",
            empty=_NO_SHADOW,
            stacked=True,
            width=10,
        ),
        Panel(
            "Tiles that only one model flags as suspect",
            [
                Query(
                    f"sum by (model, outcome) (increase(semsr_shadow_flags_total{{{MODEL}, "
                    'outcome=~"served_only|shadow_only"}[1h]))',
                    "{{model}} {{outcome}}",
                )
            ],
            text="Compared tiles of the last hour whose suspect flags disagree.",
            do="look at these tiles in GET /admin/shadow before the new model is loaded.",
            empty=_NO_SHADOW,
            width=10,
        ),
        Panel(
            "Mean difference of the answers",
            [
                Query(mean("semsr_shadow_grey_difference", "model", who=MODEL), "{{model}} grey"),
                Query(mean("semsr_shadow_edge_difference", "model", who=MODEL), "{{model}} edges"),
            ],
            text="In grey levels; edges are averaged to LR pixels, so that grain counts little.",
            do="if edges rise, the models place or draw structure differently: compare pictures.",
            empty=_NO_SHADOW,
            width=8,
        ),
        Panel(
            "Share of differing pixels, mean",
            [Query(mean("semsr_shadow_pixels_above_ratio", "model", who=MODEL), "{{model}}")],
            text="Pixels that differ by more than SEMSR_SHADOW_LIMIT_GREY.",
            do="grain differs between models; a rise at the same models is a change of the input.",
            empty=_NO_SHADOW,
            unit="percentunit",
            width=8,
        ),
        Panel(
            "Duration of a compared tile, mean",
            [Query(mean("semsr_shadow_duration_seconds", "model, side", who=MODEL), "{{side}}")],
            text="Served: its batch, for each of its tiles. Shadow: on left-over processor time.",
            do="judge speed by semsr compare-models; the shadow runs at idle priority.",
            empty=_NO_SHADOW,
            unit="s",
            width=8,
        ),
    ],
)
