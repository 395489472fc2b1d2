\set id random(1, :count * 2)
INSERT INTO baseline VALUES (:id, now() + random() * interval '7 days', repeat('y', 300))
ON CONFLICT (id) DO UPDATE SET due = EXCLUDED.due, body = EXCLUDED.body;
