-- A job that is on hold by itself is silent for that reason (`withheld`), like one of an instance that is.
CREATE OR REPLACE VIEW silent_jobs AS
    SELECT a.*, s.org_id, s.reason
    FROM awaited_rearms a CROSS JOIN LATERAL (
        SELECT i.org_id, dormant_reason_of(o.last_outcome, i.on_hold OR EXISTS (
            SELECT FROM job_holds h WHERE h.instance_id = a.instance_id AND h.job_id = a.job_id)) AS reason
        FROM one_shots o JOIN instance_status i USING (instance_id)
        WHERE o.instance_id = a.instance_id AND o.job_id = a.job_id AND o.schedule_id = a.schedule_id
          AND o.state = 'delivered' AND o.last_outcome IS DISTINCT FROM 'gone'
        -- One row by the primary key. It keeps the planner from reading all one-shots.
        LIMIT 1) s;
