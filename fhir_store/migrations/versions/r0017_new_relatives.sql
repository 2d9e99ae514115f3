-- A relative who is new has rights that nobody remembers yet, and hospitals' messages bring many: only
-- the change of a RelatedPerson is kept, or every clinician's rights would move with each message.
DROP TRIGGER resource_rights ON resource;

DO $$
DECLARE
    many int2 := (SELECT tid FROM rtype WHERE name = 'RelatedPerson');
    few int2[] := ARRAY(SELECT tid FROM rtype WHERE name IN
        ('CareTeam', 'Consent', 'Organization', 'OrganizationAffiliation', 'PractitionerRole'));
    note text := ' EXECUTE FUNCTION note_rights_change()';
BEGIN
    EXECUTE 'CREATE TRIGGER resource_rights_made AFTER INSERT ON resource FOR EACH ROW WHEN'
            ' (NEW.tid = ANY(' || quote_literal(few) || '::int2[]))' || note;
    EXECUTE 'CREATE TRIGGER resource_rights_changed AFTER UPDATE ON resource FOR EACH ROW WHEN'
            ' (NEW.tid = ANY(' || quote_literal(few || many) || '::int2[]))' || note;
END $$;
