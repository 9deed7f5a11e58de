-- Measured speeds of quantized models with these bits on an engine; sources add its version to the name.
SELECT source, ref, model, params_b, method, w_bits, a_bits, kv_bits, format, engine, hardware, n_gpus, batch, prompt_len, gen_len,
    decode_tok_s, latency_ms_per_token, note
FROM efficiency
WHERE method <> 'none' AND w_bits = $w_bits AND coalesce(a_bits, 16) = $a_bits AND coalesce(kv_bits, 16) = $kv_bits AND starts_with(engine, $engine)
    AND (decode_tok_s IS NOT NULL OR latency_ms_per_token IS NOT NULL)
ORDER BY source, ref, model, method, engine, hardware, batch, prompt_len, decode_tok_s
