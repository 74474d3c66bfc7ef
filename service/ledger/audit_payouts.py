"""What can be wrong with money out: items, runs, attempts, tax, and what people put right."""

from service.ledger.findings import Check, FindingCode

_ITEM_INTERVAL = """
SELECT merchant_id, id, 'versions of payable: begins / reserve / gave back' AS detail,
       concat_ws(' / ', begins, to_version + 1, concat('up to ', version)) AS expected,
       concat_ws(' / ', from_version, reserve_version, coalesce(gave_back_version, 0)) AS found
FROM (
    SELECT item.*, coalesce(kept.version, 0) AS version,
           lag(reserve_version, 1, CAST(0 AS bigint)) OVER (
               PARTITION BY item.merchant_id, payee_id, item.currency ORDER BY from_version, reserve_version) AS begins
    FROM payout_item AS item
    LEFT JOIN balance AS kept
      ON kept.merchant_id = item.merchant_id AND kept.owner_id = item.payee_id AND kept.kind = 'payable'
     AND kept.currency = item.currency
    WHERE CAST(:merchant_id AS uuid) IS NULL OR item.merchant_id = :merchant_id
) AS placed
WHERE from_version <> begins OR reserve_version <> to_version + 1 OR to_version < from_version
   OR reserve_version > version OR gave_back_version NOT BETWEEN reserve_version + 1 AND version
"""

_ITEM_GROSS = """
WITH moved AS (
    SELECT entry.merchant_id, payee_id, currency, payable_version AS version,
           CASE WHEN destination = 'payable' THEN amount_minor ELSE -amount_minor END AS amount_minor
    FROM commission_entry AS entry
    JOIN commission ON commission.merchant_id = entry.merchant_id AND commission.id = entry.commission_id
    WHERE payable_version IS NOT NULL AND (CAST(:merchant_id AS uuid) IS NULL OR entry.merchant_id = :merchant_id)
    UNION ALL
    SELECT merchant_id, payee_id, currency, payable_version,
           CASE kind WHEN 'given' THEN amount_minor ELSE -amount_minor END
    FROM advance
    WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
    UNION ALL
    SELECT merchant_id, payee_id, currency, payable_version,
           CASE kind WHEN 'paid_outside' THEN -amount_minor ELSE amount_minor END
    FROM correction
    WHERE state = 'booked' AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
    UNION ALL
    SELECT merchant_id, payee_id, currency, gave_back_version, gross_minor
    FROM payout_item
    WHERE released_at IS NOT NULL AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
)
SELECT item.merchant_id, item.id, concat('versions ', from_version + 1, ' to ', to_version) AS detail,
       CAST(coalesce(sum(moved.amount_minor), 0) AS text) AS expected, CAST(gross_minor AS text) AS found
FROM payout_item AS item
LEFT JOIN moved
  ON moved.merchant_id = item.merchant_id AND moved.payee_id = item.payee_id AND moved.currency = item.currency
 AND moved.version > from_version AND moved.version <= to_version
WHERE CAST(:merchant_id AS uuid) IS NULL OR item.merchant_id = :merchant_id
GROUP BY item.merchant_id, item.id
HAVING coalesce(sum(moved.amount_minor), 0) <> gross_minor
"""

_ITEM_SPLIT = """
SELECT merchant_id, id, 'gross + carried, and net + tax + fee + remainder' AS detail,
       concat(gross_minor, ' + ', carried_minor) AS expected,
       concat_ws(' + ', net_minor, tax_minor, fee_minor, remainder_minor) AS found
FROM payout_item
WHERE (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
  AND (net_minor + tax_minor + fee_minor + remainder_minor <> gross_minor + carried_minor
       OR least(gross_minor, carried_minor, net_minor, tax_minor, fee_minor, remainder_minor, tax_borne_minor) < 0
       OR gross_minor + carried_minor <= 0)
"""

_ITEM_LIVE = """
SELECT merchant_id, id, concat_ws(', ', CASE WHEN released_at IS NOT NULL THEN 'released' END,
                                  CASE WHEN accepted THEN 'accepted' END,
                                  CASE WHEN others > 1 THEN 'one of several' END) AS detail,
       CASE WHEN released_at IS NOT NULL OR accepted THEN 'not live' ELSE 'the only live one' END AS expected,
       CASE WHEN live THEN 'live' ELSE 'not live' END AS found
FROM (
    SELECT item.*, count(*) FILTER (WHERE live) OVER (PARTITION BY merchant_id, payee_id, currency) AS others,
           EXISTS (SELECT FROM payout_attempt AS attempt
                   WHERE attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
                     AND outcome = 'accepted') AS accepted
    FROM payout_item AS item
    WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
) AS known
WHERE live = (released_at IS NOT NULL OR accepted) OR (released_at IS NOT NULL AND accepted) OR (live AND others > 1)
"""

_ITEM_GAVE_BACK = """
SELECT item.merchant_id, item.id, CASE WHEN released_at IS NOT NULL THEN 'released'
                                       ELSE concat(coalesce(told.amount_minor, 0), ' of ', net_minor, ' came back') END
           AS detail,
       CASE WHEN gave_back_version IS NULL THEN 'a version of payable' ELSE 'none' END AS expected,
       coalesce(CAST(gave_back_version AS text), 'none') AS found
FROM payout_item AS item
LEFT JOIN (
    SELECT merchant_id, item_id, sum(amount_minor) AS amount_minor
    FROM (
        SELECT merchant_id, item_id, kind, max(amount_minor) AS amount_minor
        FROM provider_fact WHERE kind IN ('reversed', 'returned')
        GROUP BY merchant_id, item_id, kind
    ) AS largest
    GROUP BY merchant_id, item_id
) AS told ON told.merchant_id = item.merchant_id AND told.item_id = item.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR item.merchant_id = :merchant_id)
  AND (gave_back_version IS NOT NULL)
      <> (released_at IS NOT NULL OR (NOT live AND net_minor > 0 AND coalesce(told.amount_minor, 0) >= net_minor))
"""

_ITEM_HANDED_OVER = """
SELECT item.merchant_id, item.id, concat(coalesce(tried.open, 0), ' attempts may have paid') AS detail,
       CASE WHEN coalesce(tried.open, 0) = 0 THEN 'not handed over' ELSE 'handed over once' END AS expected,
       CASE WHEN handed_over_at IS NULL THEN 'not handed over' ELSE 'handed over' END AS found
FROM payout_item AS item
LEFT JOIN (
    SELECT merchant_id, item_id, count(*) AS open
    FROM payout_attempt WHERE outcome NOT IN ('refused', 'absent')
    GROUP BY merchant_id, item_id
) AS tried ON tried.merchant_id = item.merchant_id AND tried.item_id = item.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR item.merchant_id = :merchant_id)
  AND (coalesce(tried.open, 0) > 1 OR (coalesce(tried.open, 0) = 1) <> (handed_over_at IS NOT NULL))
"""

_ITEM_RUN = """
SELECT item.merchant_id, item.id, concat('run ', run.status) AS detail,
       CASE WHEN run.status IN ('cancelled', 'closed') THEN 'released or accepted' ELSE 'not sent' END AS expected,
       CASE WHEN live THEN 'live' ELSE 'sent' END AS found
FROM payout_item AS item
JOIN payout_run AS run ON run.merchant_id = item.merchant_id AND run.id = item.run_id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR item.merchant_id = :merchant_id)
  AND ((run.status IN ('cancelled', 'closed') AND live)
       OR (run.status IN ('draft', 'submitted', 'cancelled') OR run.approved_by IS NULL
           OR run.approved_by = run.submitted_by)
          AND EXISTS (SELECT FROM payout_attempt AS attempt
                      WHERE attempt.merchant_id = item.merchant_id AND attempt.item_id = item.id
                        AND outcome NOT IN ('refused', 'absent')))
"""

_PAYOUT_BALANCE = """
WITH item AS (
    SELECT payout_item.*,
           CASE WHEN released_at IS NOT NULL THEN 'released' WHEN NOT live THEN 'paid'
                WHEN handed_over_at IS NOT NULL THEN 'in_transit' ELSE 'reserved' END AS stands,
           least(net_minor, coalesce(told.reversed_minor, 0) + coalesce(told.returned_minor, 0)) AS back_minor
    FROM payout_item
    LEFT JOIN (
        SELECT merchant_id, item_id, max(amount_minor) FILTER (WHERE kind = 'reversed') AS reversed_minor,
               max(amount_minor) FILTER (WHERE kind = 'returned') AS returned_minor
        FROM provider_fact
        GROUP BY merchant_id, item_id
    ) AS told ON told.merchant_id = payout_item.merchant_id AND told.item_id = payout_item.id
    WHERE CAST(:merchant_id AS uuid) IS NULL OR payout_item.merchant_id = :merchant_id
), moved AS (
    SELECT merchant_id, payee_id AS owner_id, kind, currency, amount_minor
    FROM item
    CROSS JOIN LATERAL (VALUES
        ('reserved', CASE WHEN stands = 'reserved' THEN gross_minor + carried_minor ELSE 0 END),
        ('in_transit', CASE WHEN stands = 'in_transit' THEN gross_minor + carried_minor ELSE 0 END),
        ('paid', CASE WHEN stands = 'paid' THEN net_minor - back_minor ELSE 0 END),
        ('taxed_carry', CASE WHEN stands = 'paid' THEN remainder_minor + back_minor ELSE 0 END
                        - CASE WHEN stands = 'released' THEN 0 ELSE carried_minor END),
        ('tax_withheld', CASE WHEN stands = 'paid' THEN tax_minor + tax_borne_minor ELSE 0 END),
        ('tax_cost', CASE WHEN stands = 'paid' THEN -tax_borne_minor ELSE 0 END),
        ('platform_fee', CASE WHEN stands = 'paid' THEN fee_minor ELSE 0 END)
    ) AS part (kind, amount_minor)
    UNION ALL
    SELECT merchant_id, payee_id,
           CASE kind WHEN 'untax' THEN 'tax_withheld' WHEN 'recover' THEN 'taxed_carry' WHEN 'write_off' THEN 'write_off'
                     ELSE 'paid' END,
           currency, CASE kind WHEN 'paid_outside' THEN amount_minor ELSE -amount_minor END
    FROM correction
    WHERE state = 'booked' AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
    UNION ALL
    SELECT line.merchant_id, line.payee_id, part.kind, remittance.currency, part.sign * line.amount_minor
    FROM tax_remittance_line AS line
    JOIN tax_remittance AS remittance
      ON remittance.merchant_id = line.merchant_id AND remittance.id = line.remittance_id
    CROSS JOIN (VALUES ('tax_withheld', -1), ('remitted', 1)) AS part (kind, sign)
    WHERE CAST(:merchant_id AS uuid) IS NULL OR line.merchant_id = :merchant_id
), expected AS (
    SELECT merchant_id, owner_id, kind, currency, sum(amount_minor) AS amount_minor
    FROM moved
    GROUP BY merchant_id, owner_id, kind, currency
), kept AS (
    SELECT * FROM balance
    WHERE kind IN ('reserved', 'in_transit', 'paid', 'taxed_carry', 'tax_withheld', 'remitted', 'platform_fee', 'tax_cost',
                   'write_off')
      AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
)
SELECT merchant_id, owner_id AS id, kind || ' ' || currency AS detail,
       CAST(coalesce(expected.amount_minor, 0) AS text) AS expected, CAST(coalesce(kept.amount_minor, 0) AS text) AS found
FROM expected FULL JOIN kept USING (merchant_id, owner_id, kind, currency)
WHERE coalesce(expected.amount_minor, 0) <> coalesce(kept.amount_minor, 0)
"""

_RUN_HASH = """
SELECT run.merchant_id, run.id, concat('run ', run.status) AS detail,
       CASE WHEN run.submitted_at IS NULL THEN 'no hash' ELSE coalesce(told.content_hash, 'the hash of its items') END
           AS expected,
       coalesce(run.content_hash, 'no hash') AS found
FROM payout_run AS run
LEFT JOIN (
    -- As domain.payout.run_hash: over the sorted hashes of all items that were submitted.
    SELECT merchant_id, run_id,
           encode(sha256(convert_to(string_agg(content_hash, chr(10) ORDER BY content_hash COLLATE "C"), 'UTF8')),
                  'hex') AS content_hash
    FROM payout_item
    WHERE content_hash IS NOT NULL
    GROUP BY merchant_id, run_id
) AS told ON told.merchant_id = run.merchant_id AND told.run_id = run.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR run.merchant_id = :merchant_id)
  AND (run.content_hash IS DISTINCT FROM told.content_hash OR (run.submitted_at IS NULL) <> (run.content_hash IS NULL))
"""

_ATTEMPT_FACT = """
WITH accepted AS (
    SELECT merchant_id, item_id, rail, reference AS object_id
    FROM payout_attempt
    WHERE outcome = 'accepted' AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
), told AS (
    SELECT merchant_id, item_id, rail, object_id, amount_minor
    FROM provider_fact
    WHERE kind = 'accepted' AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
)
SELECT merchant_id, item_id AS id, concat(rail, ' ', object_id) AS detail,
       CASE WHEN accepted.item_id IS NULL THEN 'an accepted attempt' ELSE concat(net_minor, ' told by the rail') END
           AS expected,
       CASE WHEN accepted.item_id IS NULL THEN 'none' ELSE coalesce(CAST(told.amount_minor AS text), 'nothing told') END
           AS found
FROM accepted FULL JOIN told USING (merchant_id, item_id, rail, object_id)
JOIN (SELECT merchant_id, id AS item_id, net_minor FROM payout_item) AS item USING (merchant_id, item_id)
WHERE accepted.item_id IS NULL OR told.amount_minor IS DISTINCT FROM net_minor
"""

_ITEM_TAX = """
WITH told AS (
    SELECT merchant_id, item_id, sum(tax_minor) AS tax_minor, sum(borne_minor) AS borne_minor
    FROM tax_entry
    WHERE kind = 'accepted' AND (CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id)
    GROUP BY merchant_id, item_id
), expected AS (
    SELECT item.*, CASE WHEN live OR released_at IS NOT NULL THEN 0 ELSE tax_minor + tax_borne_minor END AS owed_minor
    FROM payout_item AS item
    WHERE CAST(:merchant_id AS uuid) IS NULL OR merchant_id = :merchant_id
)
SELECT expected.merchant_id, expected.id, concat('tax by ', tax_rule) AS detail, CAST(owed_minor AS text) AS expected,
       CAST(coalesce(told.tax_minor, 0) AS text) AS found
FROM expected
LEFT JOIN told ON told.merchant_id = expected.merchant_id AND told.item_id = expected.id
WHERE coalesce(told.tax_minor, 0) <> owed_minor
   OR coalesce(told.borne_minor, 0) <> CASE WHEN live OR released_at IS NOT NULL THEN 0 ELSE tax_borne_minor END
"""

_CORRECTION = """
SELECT told.merchant_id, told.payee_id AS id, concat(told.what, ' of ', told.amount_minor, ' ', told.currency) AS detail,
       concat(told.source, ' to ', told.destination, ' ', told.amount_minor) AS expected,
       coalesce(posting.debit_kind || ' to ' || posting.credit_kind || ' ' || posting.amount_minor, 'none') AS found
FROM (
    SELECT merchant_id, payee_id, currency, amount_minor, posting_id, kind AS what,
           CASE kind WHEN 'paid_outside' THEN 'paid' ELSE 'payable' END AS destination,
           CASE kind WHEN 'untax' THEN 'tax_withheld' WHEN 'recover' THEN 'taxed_carry' WHEN 'write_off' THEN 'write_off'
                     ELSE 'payable' END AS source
    FROM correction WHERE state = 'booked'
    UNION ALL
    SELECT line.merchant_id, line.payee_id, remittance.currency, line.amount_minor, line.posting_id, 'remittance',
           'remitted', 'tax_withheld'
    FROM tax_remittance_line AS line
    JOIN tax_remittance AS remittance
      ON remittance.merchant_id = line.merchant_id AND remittance.id = line.remittance_id
) AS told
LEFT JOIN posting ON posting.merchant_id = told.merchant_id AND posting.id = told.posting_id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR told.merchant_id = :merchant_id)
  AND (told.source, told.destination, told.payee_id, told.payee_id, told.currency, told.amount_minor)
      IS DISTINCT FROM (posting.debit_kind, posting.credit_kind, posting.debit_owner_id, posting.credit_owner_id,
                        posting.currency, posting.amount_minor)
"""

_REMITTED = """
SELECT remittance.merchant_id, remittance.merchant_id AS id,
       concat('remittance ', remittance.reference, ' of ', remittance.rule, ' ', remittance.period) AS detail,
       concat(amount_minor, ' of ', payees) AS expected, concat(coalesce(told.sum, 0), ' of ', coalesce(told.count, 0)) AS found
FROM tax_remittance AS remittance
LEFT JOIN (
    SELECT merchant_id, remittance_id, sum(amount_minor) AS sum, count(*) AS count FROM tax_remittance_line
    GROUP BY merchant_id, remittance_id
) AS told ON told.merchant_id = remittance.merchant_id AND told.remittance_id = remittance.id
WHERE (CAST(:merchant_id AS uuid) IS NULL OR remittance.merchant_id = :merchant_id)
  AND (amount_minor, payees) IS DISTINCT FROM (told.sum, told.count)
"""

PAYOUT_CHECKS: tuple[Check, ...] = (
    Check(FindingCode.ITEM_INTERVAL, "pay", _ITEM_INTERVAL),
    Check(FindingCode.ITEM_GROSS, "pay", _ITEM_GROSS),
    Check(FindingCode.ITEM_SPLIT, "pay", _ITEM_SPLIT),
    Check(FindingCode.ITEM_LIVE, "pay", _ITEM_LIVE),
    Check(FindingCode.ITEM_GAVE_BACK, "pay", _ITEM_GAVE_BACK),
    Check(FindingCode.ITEM_HANDED_OVER, "pay", _ITEM_HANDED_OVER),
    Check(FindingCode.ITEM_RUN, "pay", _ITEM_RUN),
    Check(FindingCode.PAYOUT_BALANCE, "aff", _PAYOUT_BALANCE),
    Check(FindingCode.RUN_HASH, "run", _RUN_HASH),
    Check(FindingCode.ATTEMPT_FACT, "pay", _ATTEMPT_FACT),
    Check(FindingCode.ITEM_TAX, "pay", _ITEM_TAX),
    Check(FindingCode.CORRECTION, "aff", _CORRECTION),
    Check(FindingCode.CORRECTION, "mer", _REMITTED),
)
