-- Rows by nominal bits and task type, the unquantized ones left out.
SELECT w_bits, a_bits, kv_bits, task_type, count(*) AS n, count(*) FILTER (learnable) AS n_learnable
FROM evidence
WHERE method <> 'none'
GROUP BY ALL
ORDER BY w_bits, a_bits, kv_bits, task_type
