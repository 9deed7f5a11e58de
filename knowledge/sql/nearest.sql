-- Learnable rows, the most telling for one model, scheme and task first. Each part of the distance is 0 for the same thing:
-- the model before the family before the size (in doublings), the bits of each tensor kind, method, task before its kind.
SELECT *,
    CASE WHEN model = $model THEN 0 WHEN family = $family THEN 1 ELSE 2 END
        + coalesce(abs(log2(params_b / $params_b)), 2) / 2
        + CASE WHEN scheme = $scheme THEN 0 ELSE 0.5 END
        + 2 * abs(w_bits - $w_bits) + abs(a_bits - $a_bits) / 2 + abs(kv_bits - $kv_bits)
        + CASE WHEN method = $method THEN 0 ELSE 0.5 END
        + CASE WHEN task = $task THEN 0 WHEN ability = $ability THEN 2 WHEN task_type = $task_type THEN 3 ELSE 6 END AS distance
FROM evidence
WHERE learnable
ORDER BY distance, evidence_id
LIMIT $limit
