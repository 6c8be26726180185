PRAGMA journal_mode = MEMORY;
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer INTEGER, amount REAL, note TEXT);
BEGIN;
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
INSERT INTO orders SELECT i, i * 7919 % 997, (i * 31 % 1000) / 8.0, 'order ' || (i * 17 % 5003) FROM n;
CREATE INDEX by_customer ON orders (customer);
COMMIT;
SELECT count(*), sum(amount) FROM orders WHERE note LIKE '%9_1%';
SELECT customer, sum(amount) AS total FROM orders GROUP BY customer ORDER BY total DESC, customer LIMIT 5;
SELECT count(*) FROM orders a JOIN orders b ON a.customer = b.customer AND a.id < b.id WHERE a.customer % 10 = 3;
UPDATE orders SET amount = amount * 1.5, note = upper(note) WHERE customer % 3 = 0;
DELETE FROM orders WHERE id % 5 = 0;
SELECT count(*), round(sum(amount), 3), max(length(note)) FROM orders;
SELECT substr(note, 1, 8) AS prefix, count(*) FROM orders GROUP BY prefix ORDER BY 2 DESC, 1 LIMIT 3;
