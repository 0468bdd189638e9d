"""What is lost as a whole and brought back by the runbook: a database that was restored, counts that are recounted."""

import random
import time

from chaos.faults.harness import MENDED_SECONDS_MAX, Evidence, Fault, Field, Hurts
from chaos.run.pipeline import VoidRunError
from common.kafka.admin import Admin
from common.topics import METRICS, METRICS_PARTIALS, METRICS_TOTALS, MINUTE_VOLUMES

RECOUNT = "minutes recounted"
SINCE_THE_BACKUP = 100
"""So many orders are decided between backup and restore."""
LOOK_SECONDS = 0.2


def restore(field: Field, _chance: random.Random) -> Evidence:
    """Restore a database that is older than the topics, rebuild it from them, and go on.

    The API is down meanwhile: idempotency keys are nowhere but in the database, so those since a backup are lost.
    """
    site = field.lane.site
    workers = [kept for kept in field.lane.processes() if kept.name in {"inventory", "notification"}]
    with field.stopped(field.lane.kept("order-api")):
        put_back = field.insist(site.backup, "back the database up")
        known = field.insist(lambda: _decisions(field), "count the decisions")
        deadline = time.monotonic() + MENDED_SECONDS_MAX  # a load whose producer was hurt is silent for a minute
        while field.insist(lambda: _decisions(field), "count the decisions") < known + SINCE_THE_BACKUP:
            if time.monotonic() > deadline:
                raise VoidRunError(f"fewer than {SINCE_THE_BACKUP} orders were decided since the backup")
            time.sleep(LOOK_SECONDS)
        with field.stopped(*workers):
            decided = field.insist(lambda: _decisions(field), "count the decisions")
            field.insist(put_back, "restore the database")
            restored = field.insist(lambda: _decisions(field), "count the decisions")
            said = field.insist(lambda: site.pipeline("rebuild"), "rebuild the database")
            rebuilt = field.insist(lambda: _decisions(field), "count the decisions")
    for kept in field.lane.processes():
        field.wait_ready(kept)
    if rebuilt < decided:
        field.complaints.append(f"{decided} decisions before the restore, {rebuilt} after the rebuild")
    return {"lost": decided - restored, "rebuilt": rebuilt - restored, "said": said.splitlines()[0]}


def _decisions(field: Field) -> int:
    ((count,),) = field.lane.site.administer("SELECT count(*) FROM inventory.decision")
    return int(count)


def recount(field: Field, _chance: random.Random) -> Evidence:
    """Delete what is counted with the groups that count, have it provisioned, and start the counting: runbook."""
    site = field.lane.site
    admin = Admin(site.settings)
    counting = [kept for kept in field.lane.processes() if kept.name in {"metrics", "metrics-totals"}]
    with field.stopped(*counting), field.recounting():
        field.insist(lambda: admin.delete_topics((METRICS_PARTIALS, MINUTE_VOLUMES)), "delete the counts")
        field.insist(lambda: admin.delete_groups((METRICS, METRICS_TOTALS)), "delete the groups that count")
        field.insist(lambda: site.pipeline("provision"), "provision")
        field.recount_ahead = False
    for kept in counting:
        field.wait_ready(kept)
    return {"deleted": [METRICS_PARTIALS.name, MINUTE_VOLUMES.name], "processes": len(counting)}


FAULTS = (
    Fault("database restored from a backup", Hurts.MACHINE, restore, alone=True, once=True, ends_all=True),
    Fault(RECOUNT, Hurts.METRICS, recount, once=True),
)
