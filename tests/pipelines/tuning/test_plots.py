from optuna.trial import TrialState

from pipelines.tuning import plots


def test_plots_count_pruned_trials_with_what_they_reached(tmp_path, study):
    for number, (state, value) in enumerate([("ok", 0.5), ("cut", 0.4), ("ok", 0.7), ("cut", 0.3), ("failed", 0.0)]):
        trial = study.ask()
        trial.suggest_float("dropout", 0, 1)
        trial.suggest_categorical("input_size", ["[45, 60]", "[60, 60]"])
        if state == "ok":
            study.tell(trial, value)
        elif state == "cut":
            trial.report(value, number)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, state=TrialState.FAIL)
    shown = plots.with_values(study)
    assert sorted(trial.value for trial in shown.trials) == [0.3, 0.4, 0.5, 0.7]
    assert {trial.params["input_size"] for trial in shown.trials} <= {"45x60", "60x60"}
    plots.draw_study(study, tmp_path)
    assert {path.name for path in tmp_path.glob("*.png")} == {"history.png", "importance.png", "slice.png"}
