-- Rows that pass every filter that is given; NULL is no filter.
SELECT *
FROM evidence
WHERE ($model::VARCHAR IS NULL OR model = $model)
    AND ($family::VARCHAR IS NULL OR family = $family)
    AND ($task::VARCHAR IS NULL OR task = $task)
    AND ($task_type::VARCHAR IS NULL OR task_type = $task_type)
    AND ($ability::VARCHAR IS NULL OR ability = $ability)
    AND ($method::VARCHAR IS NULL OR method = $method)
    AND ($scheme::VARCHAR IS NULL OR scheme = $scheme)
    AND ($source::VARCHAR IS NULL OR source = $source)
    AND ($w_bits::DOUBLE IS NULL OR w_bits = $w_bits)
    AND ($a_bits::DOUBLE IS NULL OR a_bits = $a_bits)
    AND ($kv_bits::DOUBLE IS NULL OR kv_bits = $kv_bits)
    AND ($learnable::BOOLEAN IS NULL OR learnable = $learnable)
ORDER BY model, task, evidence_id
LIMIT $limit
