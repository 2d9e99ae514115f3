-- Rights hang on alliances, too: a commit that writes an OrganizationAffiliation is kept as those of
-- the other types are.
DROP TRIGGER resource_rights ON resource;

DO $$
DECLARE
    tids int2[] := ARRAY(SELECT tid FROM rtype WHERE name IN
        ('CareTeam', 'Consent', 'Organization', 'OrganizationAffiliation', 'PractitionerRole',
         'RelatedPerson'));
BEGIN
    EXECUTE 'CREATE TRIGGER resource_rights AFTER INSERT OR UPDATE ON resource FOR EACH ROW WHEN'
            ' (NEW.tid = ANY(' || quote_literal(tids) || '::int2[]))'
            ' EXECUTE FUNCTION note_rights_change()';
END $$;
