-- Rows about one model on some tasks from which a loss can be computed; the unquantized rows left out.
-- Unknown numbers are NaN rather than NULL: for NULLs a module of NumPy is loaded that takes longer than the query.
SELECT evidence_id, source, ref, method, scheme, task, coalesce(context, 'nan'::DOUBLE) AS context, metric, coalesce(score, 'nan'::DOUBLE) AS score,
    coalesce(baseline, 'nan'::DOUBLE) AS baseline, loss, coalesce(loss_se, 'nan'::DOUBLE) AS loss_se, learnable, coalesce(reason, '') AS reason, own,
    1::BIGINT AS count
FROM evidence
WHERE model = $model AND list_contains($tasks, task) AND loss IS NOT NULL AND method <> 'none'
ORDER BY evidence_id
