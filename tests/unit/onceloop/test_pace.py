from onceloop.pace import FIRST_RECORDS, TRANSACTION_SECONDS, Pace


def test_first_batch_is_small_and_grows_to_the_largest() -> None:
    pace = Pace(500)
    assert pace.limit == FIRST_RECORDS
    for _ in range(6):
        pace.measured(pace.limit, 0.001 * pace.limit)
        pace.grow()
    assert pace.limit == 500


def test_slow_handler_gets_batches_that_fit_a_transaction() -> None:
    pace = Pace(500)
    pace.measured(16, 16.0)
    pace.grow()
    assert pace.limit == TRANSACTION_SECONDS


def test_handler_slower_than_a_transaction_gets_single_records() -> None:
    pace = Pace(500)
    pace.measured(1, 8.0)
    pace.grow()
    assert pace.limit == 1


def test_handler_that_becomes_fast_again_gets_more_again() -> None:
    pace = Pace(64)
    pace.measured(4, 4.0)
    assert pace.limit == 3
    for _ in range(30):
        pace.measured(pace.limit, 0.0001)
        pace.grow()
    assert pace.limit == 64


def test_largest_of_one_stays_one() -> None:
    pace = Pace(1)
    pace.grow()
    pace.narrow()
    assert pace.limit == 1
