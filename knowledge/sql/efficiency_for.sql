-- Measured speeds and sizes, with the unquantized run of the same table, model and setting beside it where there is one.
SELECT e.*, b.decode_tok_s AS baseline_decode_tok_s, b.prefill_tok_s AS baseline_prefill_tok_s,
    b.latency_ms_per_token AS baseline_latency_ms_per_token, b.peak_mem_gb AS baseline_peak_mem_gb
FROM efficiency AS e
LEFT JOIN (
    SELECT source, ref, model, engine, hardware, n_gpus, batch, prompt_len, gen_len, first(decode_tok_s) AS decode_tok_s,
        first(prefill_tok_s) AS prefill_tok_s, first(latency_ms_per_token) AS latency_ms_per_token, first(peak_mem_gb) AS peak_mem_gb
    FROM efficiency WHERE method = 'none' GROUP BY ALL HAVING count(*) = 1
) AS b ON b.source = e.source AND b.ref = e.ref AND b.model = e.model AND b.engine IS NOT DISTINCT FROM e.engine
    AND b.hardware IS NOT DISTINCT FROM e.hardware AND b.n_gpus IS NOT DISTINCT FROM e.n_gpus
    AND b.batch IS NOT DISTINCT FROM e.batch AND b.prompt_len IS NOT DISTINCT FROM e.prompt_len
    AND b.gen_len IS NOT DISTINCT FROM e.gen_len
WHERE e.method <> 'none'
    AND ($model::VARCHAR IS NULL OR e.model = $model)
    AND ($engine::VARCHAR IS NULL OR e.engine = $engine)
    AND ($w_bits::DOUBLE IS NULL OR e.w_bits = $w_bits)
    AND ($a_bits::DOUBLE IS NULL OR e.a_bits = $a_bits)
ORDER BY e.source, e.ref, e.model, e.method, e.w_bits, e.engine, e.hardware, e.batch, e.prompt_len, e.decode_tok_s
LIMIT $limit
