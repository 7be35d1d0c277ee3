// Notes that the database takes of tokens, and the verdict on overlaps and the order of acquisitions.
import type { Postgres } from '../postgres/postgres.mjs'

/**
 * `guarded` is the protected resource: it refuses a token below the last one. `attempts` has every write to it;
 * a refused one has no number. `acquired` has each acquisition in the order in which the row was written, also of
 * a client that was killed. Names have a schema because the session of a lock searches only that of the system.
 */
const NOTES = `
CREATE TABLE guarded (token bigint NOT NULL, writes bigint NOT NULL);
INSERT INTO guarded VALUES (0, 0);
CREATE TABLE attempts (number bigint UNIQUE, token bigint NOT NULL, client text NOT NULL);
CREATE FUNCTION attempt(mine bigint, client text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
  nth bigint;
BEGIN
  UPDATE public.guarded SET token = mine, writes = writes + 1 WHERE token <= mine RETURNING writes INTO nth;
  INSERT INTO public.attempts VALUES (nth, mine, client);
  RETURN nth IS NOT NULL;
END $$;
CREATE TABLE acquired (ordinal bigserial PRIMARY KEY, name text NOT NULL, token bigint NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO public.acquired (name, token) VALUES (NEW.name, NEW.token);
  RETURN NEW;
END $$;
CREATE TRIGGER note AFTER INSERT OR UPDATE OF token ON reconcile_lock FOR EACH ROW EXECUTE FUNCTION note()`

/** A write by a client, with its token and its name. */
export const ATTEMPT = 'SELECT attempt($1, $2) AS "isAccepted"'

const ALL_BEFORE = 'ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING'
const VERDICT = `SELECT
  (SELECT count(*)::int FROM acquired) AS acquisitions,
  (SELECT count(*)::int FROM (SELECT token <= max(token) OVER (PARTITION BY name ORDER BY ordinal ${ALL_BEFORE})
    AS "hasNot" FROM acquired) AS each WHERE "hasNot") AS "notGrown",
  (SELECT count(*)::int FROM attempts WHERE number IS NOT NULL) AS writes,
  (SELECT count(*)::int FROM attempts WHERE number IS NULL) AS refused,
  (SELECT count(*)::int FROM (SELECT token < max(token) OVER (ORDER BY number ${ALL_BEFORE})
    AS "isStale" FROM attempts WHERE number IS NOT NULL) AS each WHERE "isStale") AS "staleAccepted",
  (SELECT count(*)::int FROM (SELECT FROM attempts GROUP BY token HAVING count(DISTINCT client) > 1) AS each)
    AS "shared"`

export interface Verdict {
  acquisitions: number
  /** Acquisitions whose token was not above all earlier ones of that name. */
  notGrown: number
  writes: number
  refused: number
  /** Accepted writes whose token was below that of an earlier one. */
  staleAccepted: number
  /** Tokens that two clients wrote with. */
  shared: number
}

/** Starts the notes; the table of the lock must exist. */
export async function takeNotes(postgres: Postgres): Promise<void> {
  await postgres.sql(NOTES)
}

export async function verdict(postgres: Postgres): Promise<Verdict> {
  const [found] = await postgres.sql<Verdict & Record<string, unknown>>(VERDICT)
  if (!found) throw new Error('there is no verdict')
  return found
}
