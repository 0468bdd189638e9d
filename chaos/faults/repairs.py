"""What is lost as a whole and brought back by the runbook: a database that was restored, counts that are recounted."""

import random
from functools import partial

from chaos.faults.harness import MENDED_SECONDS_MAX, Evidence, Fault, Harness, Hurts
from common.kafka.admin import Admin
from common.topics import METRICS, METRICS_PARTIALS, METRICS_TOTALS, MINUTE_VOLUMES

RECOUNT = "minutes recounted"
SINCE_THE_BACKUP = 100
"""So many orders are decided between backup and restore."""
LOOK_SECONDS = 0.2


def restore(harness: Harness, _chance: random.Random) -> Evidence:
    """Restore a database that is older than the topics, rebuild it from them, and go on.

    The API is down meanwhile: idempotency keys are nowhere but in the database, so those since a backup are lost.
    """
    pipeline = harness.pipeline
    with harness.stopped(pipeline.slot("order-api")):
        put_back = harness.insist(pipeline.backup, "back the database up")
        known = _decisions(harness)
        pipeline.wait(
            lambda: _decisions(harness) >= known + SINCE_THE_BACKUP,
            f"{SINCE_THE_BACKUP} orders decided since the backup",
            seconds=MENDED_SECONDS_MAX,  # a load whose producer was hurt is silent for a minute
            every_seconds=LOOK_SECONDS,
        )
        with harness.stopped(*pipeline.slots("inventory", "notification")):
            decided = _decisions(harness)
            harness.insist(put_back, "restore the database")
            restored = _decisions(harness)
            said = harness.insist(lambda: pipeline.command("rebuild"), "rebuild the database")
            rebuilt = _decisions(harness)
    harness.wait_ready()
    if rebuilt < decided:
        harness.complaints.append(f"{decided} decisions before the restore, {rebuilt} after the rebuild")
    return {"lost": decided - restored, "rebuilt": rebuilt - restored, "said": said.splitlines()[0]}


def _decisions(harness: Harness) -> int:
    ask = partial(harness.pipeline.administer, "SELECT count(*) FROM inventory.decision")
    ((count,),) = harness.insist(ask, "count the decisions")
    return int(count)


def recount(harness: Harness, _chance: random.Random) -> Evidence:
    """Delete what is counted with the groups that count, have it provisioned, and start the counting: runbook."""
    pipeline = harness.pipeline
    admin = Admin(pipeline.settings)
    counting = pipeline.slots("metrics", "metrics-totals")
    with harness.stopped(*counting), pipeline.auditor.recounting():
        harness.insist(lambda: admin.delete_topics((METRICS_PARTIALS, MINUTE_VOLUMES)), "delete the counts")
        harness.insist(lambda: admin.delete_groups((METRICS, METRICS_TOTALS)), "delete the groups that count")
        harness.insist(lambda: pipeline.command("provision"), "provision")
        harness.recount_ahead = False
    harness.wait_ready(*counting)
    return {"deleted": [METRICS_PARTIALS.name, MINUTE_VOLUMES.name], "processes": len(counting)}


FAULTS = (
    Fault("database restored from a backup", Hurts.MACHINE, restore, alone=True, once=True, ends_all=True),
    Fault(RECOUNT, Hurts.METRICS, recount, once=True),
)
