-- The rows of evidence_for where there may be very many: of each cell of one source the newest $kept as they are and, behind
-- all of them, one row that stands for the `count` older ones. Its loss is their mean by inverse variance, its error that of
-- each of as many rows of equal error that together know as much; in all else it is like the newest. $unknown_se is the error
-- of a row that states none. The wide columns are read of the kept rows alone.
WITH cell AS (
    SELECT source, method, scheme, task, context, metric, learnable, count(*) AS n, max(evidence_id, $kept) AS newest,
        sum(greatest(coalesce(loss_se, $unknown_se), 0.001) ** -2) AS precision,
        sum(loss * greatest(coalesce(loss_se, $unknown_se), 0.001) ** -2) AS weighted
    FROM evidence
    WHERE model = $model AND list_contains($tasks, task) AND loss IS NOT NULL AND method <> 'none'
    GROUP BY ALL
),
kept AS (
    SELECT evidence_id, source, ref, method, scheme, task, context, metric, score, baseline, loss, loss_se, learnable, reason, own,
        1::BIGINT AS count
    FROM evidence
    WHERE model = $model AND evidence_id IN (SELECT unnest(newest) FROM cell)
),
counted AS (
    SELECT source, method, scheme, task, context, metric, learnable, max(evidence_id) AS evidence_id,
        sum(greatest(coalesce(loss_se, $unknown_se), 0.001) ** -2) AS precision,
        sum(loss * greatest(coalesce(loss_se, $unknown_se), 0.001) ** -2) AS weighted
    FROM kept
    GROUP BY ALL
),
folded AS (
    SELECT kept.* REPLACE (
        (cell.weighted - counted.weighted) / (cell.precision - counted.precision) AS loss,
        sqrt((cell.n - len(cell.newest)) / (cell.precision - counted.precision)) AS loss_se,
        cell.n - len(cell.newest) AS count
    )
    FROM cell
    JOIN counted ON counted.evidence_id = cell.newest[1]
    JOIN kept ON kept.evidence_id = cell.newest[1]
    WHERE cell.n > len(cell.newest)
)
SELECT * EXCLUDE (behind) REPLACE (
    coalesce(context, 'nan'::DOUBLE) AS context, coalesce(score, 'nan'::DOUBLE) AS score, coalesce(baseline, 'nan'::DOUBLE) AS baseline,
    coalesce(loss_se, 'nan'::DOUBLE) AS loss_se, coalesce(reason, '') AS reason
)
FROM (SELECT *, false AS behind FROM kept UNION ALL SELECT *, true AS behind FROM folded)
ORDER BY behind, evidence_id
