-- Sources with their rows by table, and their share of the weight in fits.
SELECT s.id, s.title, s.origin, s.licence, s.caveats,
    coalesce(e.n, 0) AS n_accuracy, coalesce(e.n_learnable, 0) AS n_learnable, coalesce(f.n, 0) AS n_efficiency,
    coalesce(e.weight / sum(e.weight) OVER (), 0) AS share
FROM sources AS s
LEFT JOIN (
    SELECT source, count(*) AS n, count(*) FILTER (learnable) AS n_learnable, sum(weight) AS weight FROM evidence GROUP BY source
) AS e ON e.source = s.id
LEFT JOIN (SELECT source, count(*) AS n FROM efficiency GROUP BY source) AS f ON f.source = s.id
ORDER BY s.id
