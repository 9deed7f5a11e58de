-- Rows about one model on some tasks from which a loss can be computed; the unquantized rows left out.
SELECT evidence_id, source, ref, method, scheme, w_bits, w_dtype, w_group, a_bits, a_dtype, kv_bits, kv_dtype, kv_name, task, task_type,
    ability, shots, context, metric, score, baseline, chance, loss_kind, unit, loss, loss_se, weight, learnable, suspect, reason, own, 1::BIGINT AS count
FROM evidence
WHERE model = $model AND list_contains($tasks, task) AND loss IS NOT NULL AND method <> 'none'
ORDER BY evidence_id
