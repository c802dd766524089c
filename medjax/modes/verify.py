"""`--mode verify`: checks a data set before anyone trains on it; every finding at once, in a table."""

from pathlib import Path

from rich.table import Table

from medjax import progress
from medjax.data.annotations import annotated, with_drawn
from medjax.data.layouts import open_dataset
from medjax.data.verify import verify
from medjax.errors import UserError
from medjax.modes.defaults import Config

console = progress.console


def main(config: Config, workdir: Path) -> None:
    """Prints what is wrong with the data set of `config.data.root`; exits with 1 if anything is."""
    data = config.data
    if not data.root:
        raise UserError("config.data.root: is unset; give the folder to verify")
    dataset = open_dataset(
        data.root, data.layout, channels=tuple(data.channels), convention=data.convention
    )
    dataset = annotated(with_drawn(dataset, Path(data.root)), Path(data.root))
    patients = {case.patient for case in dataset.cases}
    console.print(
        f"{dataset.name}: layout {dataset.layout}, {len(dataset.cases)} cases of {len(patients)} patients, "
        f"channels {', '.join(dataset.channels)}, labels {dataset.convention.describe()}"
    )
    if dataset.targets:
        known = sum(case.target is not None for case in dataset.cases)
        console.print(f"classes of {known} cases: {', '.join(dataset.targets)}")
    some = sum(case.drawn is not None for case in dataset.cases)
    if some:
        console.print(f"in {some} cases only some classes were drawn")
    searched = [case.objects for case in dataset.cases if case.objects is not None]
    if searched:
        console.print(f"{sum(map(len, searched))} objects listed of {len(searched)} cases")
    for text in dataset.assumed:
        console.print(f"assumed: {text}")
    findings = verify(dataset, progress=progress.bar("checking"))
    if not findings:
        console.print("no findings")
        return
    table = Table("case", "finding", "file", "what is wrong and what to do", show_lines=False)
    for finding in findings:
        table.add_row(finding.case, finding.kind, finding.file, finding.message)
    console.print(table)
    raise UserError(f"{data.root}: {len(findings)} findings; mend them before training")
