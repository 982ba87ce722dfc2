import Support from "./support";

export default function Page() {
  return <Support />;
}
