// Walks through the FHIR API with the unmodified clients of npm.
// usage: node walk.mjs fhir-kit-client|fhirclient BASE; prints what it found as one JSON object.

import { Client } from 'fhir-kit-client';
import smart from 'fhirclient';

const patient = (family, code) => ({
  resourceType: 'Patient',
  identifier: [{ system: 'urn:example:mrn', value: code }],
  name: [{ family, given: ['雷'] }],
});
const pulse = (reference) => ({
  resourceType: 'Observation',
  status: 'final',
  code: { coding: [{ system: 'http://loinc.org', code: '8867-4' }] },
  subject: { reference },
});

async function withFhirKitClient(base) {
  const client = new Client({ baseUrl: base });
  const seen = {};
  seen.fhirVersion = (await client.capabilityStatement()).fhirVersion;
  const created = await client.create({ resourceType: 'Patient', body: patient('李', 'k1') });
  const { id } = created;
  await client.patch({
    resourceType: 'Patient',
    id,
    jsonPatch: [{ op: 'add', path: '/gender', value: 'female' }],
  });
  seen.patched = (await client.read({ resourceType: 'Patient', id })).gender;
  seen.firstVersion = (await client.vread({ resourceType: 'Patient', id, version: '1' })).gender ?? null;
  seen.versions = (await client.history({ resourceType: 'Patient', id })).entry.length;
  const answer = await client.transaction({
    body: {
      resourceType: 'Bundle',
      type: 'transaction',
      entry: [1, 2, 3].map(() => ({
        resource: pulse(`Patient/${id}`),
        request: { method: 'POST', url: 'Observation' },
      })),
    },
  });
  seen.transaction = answer.entry.map((one) => one.response.status);
  let page = await client.search({
    resourceType: 'Observation',
    searchParams: { subject: `Patient/${id}`, _count: '2' },
  });
  seen.pages = [];
  while (page) {
    seen.pages.push((page.entry ?? []).length);
    page = await client.nextPage({ bundle: page });
  }
  const posted = await client.search({
    resourceType: 'Patient',
    searchParams: { identifier: 'urn:example:mrn|k1' },
    options: { postSearch: true },
  });
  seen.posted = posted.entry.map((one) => one.resource.id === id);
  const own = await client.compartmentSearch({
    resourceType: 'Observation',
    compartment: { resourceType: 'Patient', id },
  });
  seen.compartment = own.entry.length;
  const whole = await client.operation({
    name: 'everything',
    resourceType: 'Patient',
    id,
    method: 'GET',
  });
  seen.everything = whole.entry.length;
  try {
    await client.read({ resourceType: 'Patient', id: 'nobody' });
  } catch (error) {
    seen.missing = [error.response.status, error.response.data.resourceType];
  }
  return seen;
}

async function withFhirclient(base) {
  const client = new smart.FhirClient(base);
  const seen = {};
  seen.release = await client.getFhirRelease();
  const created = await client.create(patient('韩', 'c1'));
  const changed = await client.update({ ...created, gender: 'male' });
  seen.version = changed.meta.versionId;
  const patched = await client.patch(`Patient/${created.id}`, [
    { op: 'replace', path: '/gender', value: 'female' },
  ]);
  seen.patched = patched.gender;
  for (let turn = 0; turn < 3; turn += 1) {
    await client.create(pulse(`Patient/${created.id}`));
  }
  seen.pages = [];
  for await (const page of client.pages(`Observation?subject=Patient/${created.id}&_count=2`)) {
    seen.pages.push((page.entry ?? []).length);
  }
  const observation = (
    await client.fhirRequest(`Observation?subject=Patient/${created.id}&_count=1`)
  ).entry[0].resource;
  const found = await client.getReferences(observation, ['subject']);
  seen.resolved = Object.values(found).map((one) => one.name?.[0]?.family ?? null);
  await client.delete(`Observation/${observation.id}`);
  try {
    await client.fhirRequest(`Observation/${observation.id}`);
  } catch (error) {
    seen.gone = error.status;
  }
  return seen;
}

const [, , which, base] = process.argv;
const walk = { 'fhir-kit-client': withFhirKitClient, fhirclient: withFhirclient }[which];
console.log(JSON.stringify(await walk(base)));
